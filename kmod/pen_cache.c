// SPDX-License-Identifier: GPL-2.0-only
/*
 * The buffers between programs and the stick: write-back, read-ahead, and
 * single bytes on a device of blocks. What programs do; pen_work.c is the
 * other side.
 *
 * A block of a buffer is valid (equal to the stick, or newer), dirty (newer),
 * bad (reading it failed; told once), or unknown. Beside those one block of a
 * buffer may be begun: its first tail_len bytes are written, the rest is on
 * the stick. A sequential writer of odd pieces completes it without a read;
 * whoever needs it earlier has the work item fetch the rest.
 */
#include <linux/sched/signal.h>

#include "pen.h"

/* A sequential reader who got this far gets whole windows, and two ahead. */
#define SEQUENTIAL_BYTES	(64u << 10)
#define AHEAD_WINDOWS		2
#define AROUND_BYTES		(16u << 10)
#define IDLE_WRITEBACK		(2 * HZ)

static int pen_medium_error(struct pen_lun *lun, unsigned int gen)
{
	if (pen_gone(lun->pen) || lun->dead)
		return -ENODEV;
	if (!lun->present)
		return -ENOMEDIUM;
	return lun->gen == gen ? 0 : -EIO;
}

/**
 * pen_cache_wake() - tell all waiters that something changed
 * @lun: locked
 */
void pen_cache_wake(struct pen_lun *lun)
{
	lun->events++;
	wake_up_all(&lun->wait);
}

/* Drops the lock until something changes. @timeout 0: until killed. */
static int pen_cache_wait(struct pen_lun *lun, unsigned long timeout)
{
	unsigned long seen = lun->events;
	int ret = 0;

	mutex_unlock(&lun->lock);
	if (timeout) {
		if (!wait_event_idle_timeout(lun->wait,
					     READ_ONCE(lun->events) != seen ||
					     pen_gone(lun->pen), timeout))
			ret = -ETIMEDOUT;
	} else {
		ret = wait_event_killable(lun->wait,
					  READ_ONCE(lun->events) != seen ||
					  pen_gone(lun->pen));
	}
	mutex_lock(&lun->lock);
	return ret;
}

void pen_cache_init(struct pen_lun *lun)
{
	mutex_init(&lun->lock);
	init_waitqueue_head(&lun->wait);
	INIT_WORK(&lun->work, pen_lun_work);
	INIT_DELAYED_WORK(&lun->idle, pen_lun_idle);
}

/* The buffer of a window, or NULL: none can be had right now. */
static struct pen_buf *pen_buf_get(struct pen_lun *lun, u64 index, bool ahead)
{
	struct pen_buf *victim = NULL, *dirty = NULL;
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		struct pen_buf *buf = lun->buf[i];

		if (buf->used && buf->index == index) {
			buf->stamp = ++lun->clock;
			return buf;
		}
		if (buf->io || buf->writer || buf->readers)
			continue;
		if (pen_buf_is_dirty(buf)) {
			if (!dirty || buf->stamp < dirty->stamp)
				dirty = buf;
		} else if (!victim || !buf->used ||
			   (victim->used && buf->stamp < victim->stamp)) {
			victim = buf;
		}
	}
	if (!victim) {
		if (dirty && !ahead) {
			dirty->flush = true;
			pen_lun_kick(lun);
		}
		return NULL;
	}
	pen_buf_forget(victim);
	victim->used = true;
	victim->index = index;
	victim->stamp = ++lun->clock;
	victim->blocks = pen_window_blocks(index, lun->geo.blocks, lun->window,
					   lun->geo.block_size);
	return victim;
}

static struct pen_buf *pen_buf_wait(struct pen_lun *lun, unsigned int gen,
				    u64 index)
{
	for (;;) {
		struct pen_buf *buf;
		int ret = pen_medium_error(lun, gen);

		if (ret)
			return ERR_PTR(ret);
		buf = pen_buf_get(lun, index, false);
		if (buf)
			return buf;
		ret = pen_cache_wait(lun, 0);
		if (ret)
			return ERR_PTR(ret);
	}
}

static void pen_buf_want(struct pen_lun *lun, struct pen_buf *buf, u32 first,
			 u32 end, bool ahead)
{
	if (buf->want_first == buf->want_end) {
		buf->want_first = first;
		buf->want_end = end;
		buf->ahead = ahead;
	} else {
		buf->want_first = min(buf->want_first, first);
		buf->want_end = max(buf->want_end, end);
		buf->ahead = buf->ahead && ahead;
	}
	pen_lun_kick(lun);
}

/* Waits until a pinned buffer's block is valid; tells a bad one once. */
static int pen_buf_fetch(struct pen_lun *lun, struct pen_buf *buf,
			 unsigned int gen, u32 first, u32 end)
{
	for (;;) {
		int ret = pen_medium_error(lun, gen);

		if (ret)
			return ret;
		if (test_bit(first, buf->valid))
			return 0;
		if (test_and_clear_bit(first, buf->bad))
			return buf->error;
		pen_buf_want(lun, buf, first, end, false);
		ret = pen_cache_wait(lun, 0);
		if (ret)
			return ret;
	}
}

static void pen_read_ahead(struct pen_lun *lun, u64 index)
{
	unsigned int i;

	for (i = 1; i <= AHEAD_WINDOWS; i++) {
		struct pen_buf *buf;

		if (!pen_window_blocks(index + i, lun->geo.blocks, lun->window,
				       lun->geo.block_size))
			return;
		buf = pen_buf_get(lun, index + i, true);
		if (!buf)
			return;
		if (find_first_zero_bit(buf->valid, buf->blocks) <
		    buf->blocks && bitmap_empty(buf->bad, PEN_MAX_BLOCKS))
			pen_buf_want(lun, buf, 0, buf->blocks, true);
	}
}

static size_t pen_copy(struct pen_buf *buf, u32 offset, u32 len,
		       struct iov_iter *iter, bool to_user)
{
	size_t done = 0;

	while (len) {
		u32 in = offset % PEN_CHUNK;
		u32 n = min(len, PEN_CHUNK - in);
		u8 *p = (u8 *)buf->chunk[offset / PEN_CHUNK] + in;
		size_t got = to_user ? copy_to_iter(p, n, iter) :
				       copy_from_iter(p, n, iter);

		done += got;
		if (got < n)
			break;
		offset += n;
		len -= n;
	}
	return done;
}

/**
 * pen_cache_read() - read within one window
 * @file: who
 * @pos: where
 * @to: destination; its count is the length
 *
 * Returns the bytes copied, 0 at the end of the medium.
 */
ssize_t pen_cache_read(struct pen_file *file, loff_t pos, struct iov_iter *to)
{
	struct pen_lun *lun = file->lun;
	struct pen_span span;
	struct pen_buf *buf;
	bool sequential;
	ssize_t ret;
	u32 want, end;

	mutex_lock(&lun->lock);
	ret = pen_medium_error(lun, file->gen);
	if (ret || !pen_span(pos, iov_iter_count(to), lun->size, lun->window,
			     lun->geo.block_size, &span))
		goto out;
	if (pos != file->next)
		file->streak = 0;
	sequential = file->streak + iov_iter_count(to) >= SEQUENTIAL_BYTES;

	buf = pen_buf_wait(lun, file->gen, span.window);
	if (IS_ERR(buf)) {
		ret = PTR_ERR(buf);
		goto out;
	}
	buf->readers++;
	if (sequential)
		pen_read_ahead(lun, span.window);
	/* As far again as this reader came in one go, at least a little. */
	want = max_t(u64, file->streak, AROUND_BYTES) / lun->geo.block_size;
	want = sequential ? buf->blocks :
	       clamp(span.first + want, span.last + 1, buf->blocks);
	ret = pen_buf_fetch(lun, buf, file->gen, span.first, want);
	if (ret)
		goto unpin;
	/* What follows may still be on its way, or bad: stop before it. */
	end = find_next_zero_bit(buf->valid, span.last + 1, span.first) *
	      lun->geo.block_size;
	span.len = min(span.len, end - span.offset);

	mutex_unlock(&lun->lock);
	ret = pen_copy(buf, span.offset, span.len, to, true);
	mutex_lock(&lun->lock);
	if (!ret)
		ret = -EFAULT;
	if (lun->gen != file->gen && ret > 0) {
		iov_iter_revert(to, ret);
		ret = -EIO;
	}
	if (ret > 0) {
		file->next = pos + ret;
		file->streak += ret;
	}
unpin:
	buf->readers--;
	pen_cache_wake(lun);
out:
	mutex_unlock(&lun->lock);
	return ret;
}

/*
 * What a writer needs before he may copy: the block to fetch, or -1. A block
 * he covers from its start needs nothing, as it can become the begun one,
 * unless another one is begun already.
 */
static int pen_write_needs(const struct pen_buf *buf,
			   const struct pen_span *span, u32 block_size)
{
	u32 in_first = span->offset % block_size;
	u32 end = span->offset + span->len;
	bool continues = buf->tail_block == (int)span->first &&
			 buf->tail_len == in_first;
	bool begins;

	if (in_first && !continues && !test_bit(span->first, buf->valid))
		return span->first;
	begins = end % block_size && !test_bit(span->last, buf->valid) &&
		 (span->last != span->first || !in_first);
	if (buf->tail_block < 0 || continues)
		return -1;
	/* Covered entirely: superseded. */
	if ((int)span->first <= buf->tail_block &&
	    buf->tail_block < (int)(end / block_size) &&
	    (buf->tail_block != (int)span->first || !in_first))
		return -1;
	if (begins || (buf->tail_block >= (int)span->first &&
		       buf->tail_block <= (int)span->last))
		return buf->tail_block;
	return -1;
}

/*
 * Notes what was copied. A fault may have cut it short, even inside a block
 * of which nothing else is known and which cannot be the begun one: that
 * piece is not taken. Returns the bytes taken.
 */
static u32 pen_write_note(struct pen_buf *buf, u32 offset, u32 got,
			  u32 block_size)
{
	u32 first = offset / block_size;
	u32 end = offset + got;
	u32 full = DIV_ROUND_UP(offset, block_size);
	u32 last = end / block_size;
	u32 rest = end % block_size;
	bool head = offset % block_size;

	if (head && buf->tail_block == (int)first &&
	    buf->tail_len == offset % block_size) {
		/* The begun block goes on. */
		if (last == first) {
			buf->tail_len = rest;
			return got;
		}
		buf->tail_block = -1;
		set_bit(first, buf->valid);
		set_bit(first, buf->dirty);
	} else if (head) {
		set_bit(first, buf->dirty);
		if (last == first)
			return got;
	}
	if (last > full) {
		bitmap_set(buf->valid, full, last - full);
		bitmap_set(buf->dirty, full, last - full);
		bitmap_clear(buf->bad, full, last - full);
		if (buf->tail_block >= (int)full && buf->tail_block < (int)last)
			buf->tail_block = -1;
	}
	if (!rest)
		return got;
	if (test_bit(last, buf->valid)) {
		set_bit(last, buf->dirty);
	} else if (buf->tail_block < 0 ||
		   (buf->tail_block == (int)last && buf->tail_len <= rest)) {
		buf->tail_block = last;
		buf->tail_len = rest;
	} else {
		got -= min(got, rest);
	}
	return got;
}

/**
 * pen_cache_write() - write within one window
 * @file: who
 * @pos: where
 * @from: source; its count is the length
 *
 * Returns the bytes taken. They reach the stick when the window is full, at
 * a sync, or after a moment of silence.
 */
ssize_t pen_cache_write(struct pen_file *file, loff_t pos,
			struct iov_iter *from)
{
	struct pen_lun *lun = file->lun;
	struct pen_span span;
	struct pen_buf *buf;
	ssize_t ret;
	size_t got;
	u32 taken;
	int need;

	mutex_lock(&lun->lock);
again:
	ret = pen_medium_error(lun, file->gen);
	if (!ret && lun->read_only)
		ret = -EROFS;
	if (!ret)
		ret = errseq_check_and_advance(&lun->wb_err, &file->since);
	if (ret)
		goto out;
	if (!pen_span(pos, iov_iter_count(from), lun->size, lun->window,
		      lun->geo.block_size, &span)) {
		ret = -ENOSPC;
		goto out;
	}
	buf = pen_buf_wait(lun, file->gen, span.window);
	if (IS_ERR(buf)) {
		ret = PTR_ERR(buf);
		goto out;
	}
	if (buf->io || buf->writer) {
		ret = pen_cache_wait(lun, 0);
		if (ret)
			goto out;
		goto again;
	}
	need = pen_write_needs(buf, &span, lun->geo.block_size);
	if (need >= 0) {
		buf->readers++;
		ret = pen_buf_fetch(lun, buf, file->gen, need, need + 1);
		buf->readers--;
		if (ret)
			goto out;
		goto again;
	}

	buf->writer = true;
	mutex_unlock(&lun->lock);
	got = pen_copy(buf, span.offset, span.len, from, false);
	mutex_lock(&lun->lock);
	buf->writer = false;
	ret = pen_medium_error(lun, file->gen);
	if (ret) {
		iov_iter_revert(from, got);
		goto wake;
	}
	taken = got ? pen_write_note(buf, span.offset, got,
				     lun->geo.block_size) : 0;
	if (taken < got)
		iov_iter_revert(from, got - taken);
	ret = taken;
	if (!taken)
		ret = -EFAULT;
	if (taken) {
		file->wrote = true;
		/* A sequential writer leaves: overlap with his next window. */
		if (span.offset + taken >=
		    buf->blocks * lun->geo.block_size)
			buf->flush = true;
		mod_delayed_work(pen_wq, &lun->idle, IDLE_WRITEBACK);
	}
wake:
	/* Also for a flush that waited for this copy to end. */
	if (buf->flush)
		pen_lun_kick(lun);
	pen_cache_wake(lun);
out:
	mutex_unlock(&lun->lock);
	return ret;
}

/**
 * pen_cache_sync() - have everything written so far on the flash
 * @lun: unlocked
 * @timeout_ms: 0 waits until killed
 *
 * Write errors are in pen_lun::wb_err, for each file to fetch its own; the
 * return value only tells that waiting ended early, or that the unit left.
 */
int pen_cache_sync(struct pen_lun *lun, unsigned int timeout_ms)
{
	unsigned long timeout = msecs_to_jiffies(timeout_ms);
	unsigned int gen;
	int ret = 0;
	u64 request;
	int i;

	mutex_lock(&lun->lock);
	gen = lun->gen;
	for (i = 0; i < PEN_BUFS; i++)
		if (lun->buf[i] && (pen_buf_is_dirty(lun->buf[i]) ||
				    lun->buf[i]->writer))
			lun->buf[i]->flush = true;
	pen_lun_kick(lun);
	for (i = 0; i < PEN_BUFS && !ret; i++) {
		while (!ret && lun->buf[i] && lun->buf[i]->flush) {
			ret = pen_medium_error(lun, gen);
			if (!ret)
				ret = pen_cache_wait(lun, timeout);
		}
	}
	if (!ret && lun->unsynced) {
		request = ++lun->sync_req;
		pen_lun_kick(lun);
		while (!ret && lun->sync_done < request) {
			ret = pen_medium_error(lun, gen);
			if (!ret)
				ret = pen_cache_wait(lun, timeout);
		}
	}
	mutex_unlock(&lun->lock);
	return ret;
}

/**
 * pen_cache_check() - have the work item look at the medium, for open()
 * @lun: locked
 */
int pen_cache_check(struct pen_lun *lun)
{
	u64 request = ++lun->check_req;
	int ret = 0;

	pen_lun_kick(lun);
	while (!ret && lun->check_done < request) {
		if (pen_gone(lun->pen) || lun->dead)
			return -ENODEV;
		ret = pen_cache_wait(lun, 0);
	}
	return ret;
}

/**
 * pen_cache_shutdown() - after this nothing touches the stick for this unit
 * @lun: unlocked; PEN_GONE is set
 */
void pen_cache_shutdown(struct pen_lun *lun)
{
	mutex_lock(&lun->lock);
	lun->dead = true;
	mutex_unlock(&lun->lock);
	cancel_delayed_work_sync(&lun->idle);
	cancel_work_sync(&lun->work);
	mutex_lock(&lun->lock);
	pen_cache_lose(lun, -ENODEV);
	lun->present = false;
	pen_cache_trim(lun);
	mutex_unlock(&lun->lock);
}
