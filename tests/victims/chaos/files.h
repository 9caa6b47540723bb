/* Regular files with several openings, each with an offset that its holders share; deleted ones. */
#ifndef CHAOS_FILES_H
#define CHAOS_FILES_H
#include "turn.h"

#define FILE_MOST 12000
#define OPENINGS 3

struct file {
	unsigned char content[FILE_MOST];
	long length, at[OPENINGS];
	int desc[OPENINGS], append[OPENINGS], count, unlinked;
};

static const char *file_name(const struct step *s, char *text, size_t size)
{
	snprintf(text, size, "file%d", s->object);
	return text;
}

static void run_open_file(const struct step *s)
{
	char name[40];
	fds[s->a][0] = DO(s, open(file_name(s, name, sizeof name), O_RDWR | O_CREAT | (int)s->b, 0666));
}

static void run_unlink_file(const struct step *s)
{
	char name[40];
	DO(s, unlink(file_name(s, name, sizeof name)));
}

static void run_file_write(const struct step *s)
{
	EXPECT(s, "bytes written", DO(s, write(fd_of(s), s->data, s->length)), s->length);
	EXPECT(s, "offset after it", lseek(fd_of(s), 0, SEEK_CUR), s->a);
}

static void run_file_read(const struct step *s)
{
	unsigned char found[FILE_MOST];
	EXPECT(s, "offset", lseek(fd_of(s), 0, SEEK_CUR), s->a);
	same_bytes(s, found, DO(s, read(fd_of(s), found, s->length)));
}

static void run_file_seek(const struct step *s)
{
	EXPECT(s, "offset", lseek(fd_of(s), 0, SEEK_CUR), s->a);
	DO(s, lseek(fd_of(s), s->b, SEEK_SET));
}

static void run_file_truncate(const struct step *s)
{
	DO(s, ftruncate(fd_of(s), s->a));
}

static void run_file_whole(const struct step *s)
{
	unsigned char found[FILE_MOST + 1];
	struct stat st;
	DO(s, fstat(fd_of(s), &st));
	EXPECT(s, "size", st.st_size, s->length);
	EXPECT(s, "links", st.st_nlink, s->a);
	EXPECT(s, "O_APPEND", !!(DO(s, fcntl(fd_of(s), F_GETFL)) & O_APPEND), s->b);
	same_bytes(s, found, DO(s, pread(fd_of(s), found, sizeof found, 0)));
}

static void open_file(struct object *o, int p, int t)
{
	struct file *f = o->state;
	if (f->count == OPENINGS || f->unlinked || !descs_left())
		return;
	int end = f->count++;
	f->desc[end] = new_desc(o, end, p);
	f->append[end] = chance(20);
	struct step *s = emit(p, t, run_open_file, "open", number_of(o));
	s->a = f->desc[end];
	s->b = f->append[end] ? O_APPEND : 0;
}

static int file_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	o->state = calloc(1, sizeof(struct file));
	open_file(o, p, t);
	return 1;
}

static void file_check(struct object *o)
{
	struct file *f = o->state;
	struct step *s = on_desc(f->desc[rnd(f->count)], run_file_whole, "contents");
	if (!s)
		return;
	s->data = kept(f->content, f->length);
	s->length = f->length;
	s->a = !f->unlinked;
	s->b = f->append[descs[s->desc].end];
}

static void file_act(struct object *o)
{
	struct file *f = o->state;
	int end = rnd(f->count), p = some_holder(f->desc[end]);
	struct step *s;
	if (p < 0)
		return;
	int t = some_thread(p), d = f->desc[end];
	long n;
	switch (rnd(9)) {
	case 0:
	case 1:
		n = rnd(1500) + 1;
		long from = f->append[end] ? f->length : f->at[end];
		if (from + n > FILE_MOST)
			break;
		s = by(p, t, d, run_file_write, "write");
		s->data = fresh(n);
		s->length = n;
		memcpy(f->content + from, s->data, n);
		s->a = f->at[end] = from + n;
		if (f->length < from + n)
			f->length = from + n;
		break;
	case 2:
	case 3:
		n = f->length - f->at[end];
		if (n <= 0)
			break;
		n = rnd(n) + 1;
		s = by(p, t, d, run_file_read, "read");
		s->a = f->at[end];
		s->data = kept(f->content + f->at[end], n);
		s->length = n;
		f->at[end] += n;
		break;
	case 4:
		s = by(p, t, d, run_file_seek, "seek");
		s->a = f->at[end];
		s->b = f->at[end] = rnd(f->length + 500);
		break;
	case 5:
		n = rnd(f->length + 300);
		if (n > FILE_MOST)
			break;
		by(p, t, d, run_file_truncate, "truncate")->a = n;
		if (n < f->length)
			memset(f->content + n, 0, f->length - n);
		f->length = n;
		break;
	case 6:
		open_file(o, p, t);
		break;
	case 7:
		if (!f->unlinked && chance(25)) {
			emit(p, t, run_unlink_file, "unlink", number_of(o));
			f->unlinked = 1;
		}
		break;
	default:
		file_check(o);
	}
}

static void file_finish(struct object *o)
{
	struct file *f = o->state;
	file_check(o);
	for (int end = 0; end < f->count; end++) {
		struct step *s = on_desc(f->desc[end], run_file_seek, "last offset");
		if (s)
			s->a = s->b = f->at[end];
	}
}

static const struct kind files = { .name = "file", .make = file_make, .act = file_act, .finish = file_finish };
#endif
