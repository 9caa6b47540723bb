//#Flags: -lrt
// POSIX message queues: named, with two descriptions of one, removed, not blocking, with a signal
// that tells of the next message; sizes and modes.
#include "victim.h"
#include <mqueue.h>

static volatile sig_atomic_t told;

static void hear(int signal)
{
	(void)signal;
	told++;
}

static mqd_t make(const char *name, int flags, int mode, long count, long size)
{
	struct mq_attr a = { .mq_maxmsg = count, .mq_msgsize = size };
	return MUST(mq_open(name, O_CREAT | O_EXCL | flags, mode, &a));
}

static void is(mqd_t queue, long count, long size, long flags)
{
	struct mq_attr a;
	MUST(mq_getattr(queue, &a));
	SAME(a.mq_maxmsg, count);
	SAME(a.mq_msgsize, size);
	SAME(a.mq_flags, flags);
	SAME(a.mq_curmsgs, 0);
}

int main(void)
{
	char name[64], lost[64], text[100];
	snprintf(name, sizeof name, "/victim-%d", getpid());
	snprintf(lost, sizeof lost, "/victim-lost-%d", getpid());
	umask(0);
	mqd_t writer = make(name, O_WRONLY, 0644, 3, 100);
	umask(022);
	mqd_t reader = MUST(mq_open(name, O_RDONLY | O_NONBLOCK));
	mqd_t one = make(lost, O_RDWR, 0600, 5, 64), two = MUST(mq_open(lost, O_RDWR));
	MUST(mq_unlink(lost));
	signal(SIGUSR1, hear);
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	MUST(mq_notify(reader, &event));
	MUST(mq_send(one, "x", 1, 0));
	SAME(MUST(mq_receive(two, text, sizeof text, NULL)), 1);
	ready();
	await_verify();
	is(writer, 3, 100, 0);
	is(reader, 3, 100, O_NONBLOCK);
	is(one, 5, 64, 0);
	SAME(mq_receive(reader, text, sizeof text, NULL), -1);
	SAME(errno, EAGAIN);
	SAME(mq_send(reader, "x", 1, 0), -1);
	SAME(errno, EBADF);
	SAME(told, 0);
	MUST(mq_send(writer, "low", 3, 1));
	SAME(told, 1);
	MUST(mq_send(writer, "high", 4, 9));
	SAME(told, 1);
	unsigned priority;
	SAME(MUST(mq_receive(reader, text, sizeof text, &priority)), 4);
	SAME(priority, 9);
	MUST(mq_send(two, "other", 5, 0));
	SAME(MUST(mq_receive(one, text, sizeof text, NULL)), 5);
	CHECK(!memcmp(text, "other", 5), "it reads '%.5s'", text);
	struct stat s;
	MUST(fstat(writer, &s));
	SAME(s.st_mode & 0777, 0644);
	MUST(fstat(one, &s));
	SAME(s.st_nlink, 0);
	SAME(mq_open(lost, O_RDWR), -1);
	MUST(mq_unlink(name));
	SAME(mq_unlink(name), -1);
	ok();
}
