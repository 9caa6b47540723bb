//#Modes: none
//#Flags: -lrt
// States that a dump refuses, chosen by the arguments; the process must not notice any of it.
#include "flights.h"
#include <grp.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

static pid_t child, zombie;
/* Written by the child of a vfork as well, beside a thread that waits for it. */
static volatile pid_t relative;

/* A child that shares something with this process; it only waits. */
static void share(unsigned long what)
{
	if (what & CLONE_VM) {
		/* On a stack of its own, without the C library. */
		static char stack[16384] __attribute__((aligned(16)));
		extern int waits(void *);
		relative = MUST(clone(waits, stack + sizeof stack, what | SIGCHLD, NULL));
		return;
	}
	relative = MUST(syscall(SYS_clone, what | SIGCHLD, 0, 0, 0, 0));
	for (; !relative;)
		pause();
}

int waits(void *unused)
{
	(void)unused;
	for (;;)
		syscall(SYS_pause);
}

/* A vfork whose child starts no program for `ms` milliseconds. */
static void *in_vfork(void *ms)
{
	struct timespec t = { (long)ms / 1000, (long)ms % 1000 * 1000000 };
	if (!vfork()) {
		/* The memory is the parent's, so this tells the other thread. */
		relative = getpid();
		nanosleep(&t, NULL);
		execl("/bin/sleep", "sleep", "1000", NULL);
		_exit(127);
	}
	return NULL;
}

static void start_vfork(long ms)
{
	pthread_t t;
	MUST(pthread_create(&t, NULL, in_vfork, (void *)ms));
	while (!relative)
		sched_yield();
}

/* A process that is no descendant and holds everything but one descriptor. */
static void outsider(int not)
{
	if (!fork()) {
		prctl(PR_SET_NAME, "outsider");
		if (fork())
			_exit(0);
		close(not);
		close(0);
		close(1);
		close(2);
		sleep(100);
		_exit(0);
	}
	wait(NULL);
}

static void is_told(union sigval unused)
{
	(void)unused;
}

static void make(const char *what)
{
	if (!strcmp(what, "child")) {
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	} else if (!strcmp(what, "zombie-child")) {
		zombie = fork();
		if (!zombie)
			_exit(0);
		siginfo_t info;
		MUST(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
	} else if (!strcmp(what, "socket")) {
		/* The other end in a process that is not part of the tree. */
		int ends[2];
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		outsider(ends[0]);
		close(ends[1]);
	} else if (!strcmp(what, "netlink")) {
		int s = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
		struct sockaddr_nl any = { .nl_family = AF_NETLINK };
		/* Until it has a number it holds nothing. */
		MUST(bind(s, (void *)&any, sizeof any));
	} else if (!strcmp(what, "data-not-accepted")) {
		struct sockaddr_un here = { .sun_family = AF_UNIX, .sun_path = "listener" };
		int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
		int client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
		MUST(bind(listener, (void *)&here, sizeof here));
		MUST(listen(listener, 5));
		MUST(connect(client, (void *)&here, sizeof here));
		MUST(write(client, "x", 1));
		MUST(unlink(here.sun_path));
	} else if (!strcmp(what, "own-in-message") || !strcmp(what, "process-in-message")) {
		/* Kept as well, in a tree: who opens it is not who made the queue. */
		make("child");
		int ends[2];
		int fd = MUST(*what == 'o' ? open("/proc/self/status", O_RDONLY) : syscall(SYS_pidfd_open, child, 0));
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		give(ends[0], fd);
	} else if (!strcmp(what, "epoll-in-message")) {
		/* What it watches is shown to those who have it alone. */
		int ends[2], set = MUST(epoll_create1(0)), pipe_ends[2];
		struct epoll_event event = { .events = EPOLLIN };
		MUST(pipe(pipe_ends));
		MUST(epoll_ctl(set, EPOLL_CTL_ADD, pipe_ends[0], &event));
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		give_away(ends[0], set);
	} else if (!strcmp(what, "epoll-elsewhere")) {
		/* What it watches is closed here; somebody outside has it. */
		int set = MUST(epoll_create1(0)), event = MUST(eventfd(0, 0));
		struct epoll_event wanted = { .events = EPOLLIN };
		MUST(epoll_ctl(set, EPOLL_CTL_ADD, event, &wanted));
		outsider(set);
		MUST(close(event));
	} else if (!strcmp(what, "flight-outside")) {
		/* A pipe that is nowhere here but in messages, and that somebody outside has. */
		int ends[2], pipe_ends[2];
		MUST(pipe(pipe_ends));
		outsider(-1);
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		give_away(ends[0], pipe_ends[0]);
		give_away(ends[0], pipe_ends[1]);
	} else if (!strcmp(what, "memory-outside")) {
		/* Of which a process outside has two, too, and holds what nobody has mapped. */
		size_t size = 8192;
		int prot = PROT_READ | PROT_WRITE, memfd = MUST(memfd_create("theirs-too", 0));
		MUST(ftruncate(memfd, size));
		MUST((long)mmap(NULL, size, prot, MAP_SHARED, memfd, 0));
		MUST((long)mmap(NULL, size, prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
		MUST(ftruncate(MUST(memfd_create("held-too", 0)), size));
		MUST(open("locked.txt", O_RDWR | O_CREAT | O_EXCL, 0600));
		MUST(unlink("locked.txt"));
		MUST(open("locked.txt", O_WRONLY | O_CREAT | O_EXCL, 0600));
		MUST(open("locked.txt", O_RDONLY));
		MUST(unlink("locked.txt"));
		outsider(memfd);
		MUST(ftruncate(MUST(memfd_create("nobody-else", 0)), size));
		MUST((long)mmap(NULL, size, prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	} else if (!strncmp(what, "shared-", 7)) {
		/* Somebody outside has the same; beside others of the kind that nobody has. */
		for (int i = 0; i < 20; i++) {
			MUST(strstr(what, "event")   ? eventfd(0, 0)
			     : strstr(what, "timer") ? timerfd_create(CLOCK_MONOTONIC, 0)
			     : strstr(what, "epoll") ? epoll_create1(0)
						     : inotify_init());
			if (!i)
				outsider(-1);
		}
	} else if (!strcmp(what, "pipe-in-message")) {
		/* The end that nobody here holds but the message; the other is outside. */
		int ends[2], way[2];
		MUST(pipe(ends));
		outsider(ends[0]);
		MUST(close(ends[1]));
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
		give_away(way[0], ends[0]);
	} else if (!strcmp(what, "watch-gone")) {
		int watcher = MUST(inotify_init());
		MUST(open("locked.txt", O_WRONLY | O_CREAT, 0600));
		MUST(inotify_add_watch(watcher, "locked.txt", IN_MODIFY));
		MUST(unlink("locked.txt"));
	} else if (!strcmp(what, "mqueue-thread")) {
		char name[64];
		snprintf(name, sizeof name, "/refused-%d", getpid());
		struct sigevent told = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = is_told };
		mqd_t queue = MUST(mq_open(name, O_CREAT | O_RDWR, 0600, NULL));
		MUST(mq_unlink(name));
		MUST(mq_notify(queue, &told));
	} else if (!strcmp(what, "family")) {
		MUST(socket(AF_VSOCK, SOCK_STREAM, 0));
	} else if (!strcmp(what, "pkey")) {
		void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(pkey_mprotect(at, 4096, PROT_READ | PROT_WRITE, MUST(pkey_alloc(0, 0))));
	} else if (!strcmp(what, "lease-breaking") || !strcmp(what, "lease-removed")) {
		signal(SIGIO, SIG_IGN);
		int fd = MUST(open("locked.txt", O_RDWR | O_CREAT, 0600));
		MUST(fcntl(fd, F_SETLEASE, F_WRLCK));
		if (strstr(what, "removed")) {
			MUST(unlink("locked.txt"));
			return;
		}
		/* Not one of the tree. */
		pid_t between = MUST(fork());
		if (!between) {
			if (MUST(fork()))
				_exit(0);
			for (int i = 0; i < 3; i++)
				close(i);
			close(fd);
			open("locked.txt", O_RDONLY);
			_exit(0);
		}
		MUST(waitpid(between, NULL, 0));
		while (MUST(fcntl(fd, F_GETLEASE)) == F_WRLCK)
			usleep(500);
	} else if (!strcmp(what, "lease-mapped")) {
		int fd = MUST(open("locked.txt", O_RDWR | O_CREAT, 0600));
		MUST(ftruncate(fd, 4096));
		MUST((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		/* A lease that is broken would end the program (SIGIO). */
		MUST(fcntl(fd, F_SETLEASE, F_WRLCK));
	} else if (!strcmp(what, "fifo-gone")) {
		MUST(mkfifo("gone", 0600));
		MUST(open("gone", O_RDWR));
		MUST(unlink("gone"));
	} else if (!strcmp(what, "directory-gone")) {
		MUST(mkdir("gone", 0700));
		MUST(open("gone", O_RDONLY | O_DIRECTORY));
		MUST(rmdir("gone"));
	} else if (!strcmp(what, "path-gone")) {
		MUST(close(MUST(open("gone", O_WRONLY | O_CREAT, 0600))));
		MUST(open("gone", O_PATH));
		MUST(unlink("gone"));
	} else if (!strcmp(what, "file-of-another")) {
		MUST(open("/proc/1/stat", O_RDONLY));
	} else if (!strcmp(what, "file-of-a-thread")) {
		MUST(open("/proc/thread-self/stat", O_RDONLY));
	} else if (!strcmp(what, "device")) {
		MUST(open("/dev/kmsg", O_RDONLY));
	} else if (!strcmp(what, "packet")) {
		MUST(socket(AF_PACKET, SOCK_DGRAM, 0));
	} else if (!strcmp(what, "routing")) {
		MUST(socket(AF_INET, SOCK_RAW, IPPROTO_IGMP));
	} else if (!strcmp(what, "owner-outside")) {
		int ends[2];
		MUST(pipe(ends));
		MUST(fcntl(ends[0], F_SETOWN, getppid()));
	} else if (!strcmp(what, "raw-waiting")) {
		/* No refusal, but a loss: a packet of a protocol that nobody speaks (253 is for trials). */
		struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int raw = MUST(socket(AF_INET, SOCK_RAW, 253)), waits = 0;
		MUST(sendto(raw, "lost", 4, 0, (void *)&here, sizeof here));
		while (!waits)
			MUST(ioctl(raw, FIONREAD, &waits));
	} else if (!strcmp(what, "events-waiting")) {
		int watcher = MUST(inotify_init());
		MUST(inotify_add_watch(watcher, ".", IN_CREATE));
		MUST(close(MUST(open("locked.txt", O_WRONLY | O_CREAT, 0600))));
	} else if (!strcmp(what, "connection-waiting")) {
		struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t size = sizeof here;
		int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
		MUST(bind(listener, (void *)&here, sizeof here));
		MUST(listen(listener, 5));
		MUST(getsockname(listener, (void *)&here, &size));
		MUST(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&here, sizeof here));
	} else if (!strcmp(what, "raw-of-root")) {
		/* As ping has it: made with rights that are given up. */
		MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
		MUST(setgroups(0, NULL));
		MUST(setgid(65534));
		MUST(setuid(65534));
		MUST(prctl(PR_SET_DUMPABLE, 1));
	} else if (!strcmp(what, "urgent")) {
		int ends[2];
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		MUST(send(ends[0], "abc", 3, MSG_OOB));
	} else if (!strcmp(what, "pidfd")) {
		/* Of a process that is not part of the tree. */
		MUST(syscall(SYS_pidfd_open, getppid(), 0));
	} else if (!strcmp(what, "pidfd-gone")) {
		pid_t gone = MUST(fork());
		if (!gone)
			_exit(0);
		MUST(syscall(SYS_pidfd_open, gone, 0));
		MUST(waitpid(gone, NULL, 0));
	} else if (!strcmp(what, "aio")) {
		unsigned long context = 0;
		MUST(syscall(SYS_io_setup, 1, &context));
	} else if (!strcmp(what, "mqueue")) {
		/* In which a message waits. */
		char name[64];
		snprintf(name, sizeof name, "/refused-%d", getpid());
		mqd_t queue = MUST(mq_open(name, O_CREAT | O_RDWR, 0600, NULL));
		MUST(mq_unlink(name));
		MUST(mq_send(queue, "x", 1, 0));
	} else if (!strcmp(what, "userfaultfd")) {
		struct uffdio_api api = { .api = UFFD_API };
		int fd = MUST(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
		MUST(ioctl(fd, UFFDIO_API, &api));
		void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct uffdio_register range = { .range = { (uintptr_t)at, 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING };
		MUST(ioctl(fd, UFFDIO_REGISTER, &range));
	} else if (!strcmp(what, "io_uring")) {
		struct io_uring_params params = { 0 };
		int fd = MUST(syscall(SYS_io_uring_setup, 4, &params));
		MUST((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES));
	} else if (!strcmp(what, "fanotify")) {
		MUST(fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY));
	} else if (!strcmp(what, "secretmem")) {
		int fd = MUST(syscall(SYS_memfd_secret, 0));
		MUST(ftruncate(fd, 4096));
		MUST((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	} else if (!strcmp(what, "outside-pipe")) {
		/* One end here, the other in a process that is not part of the tree. */
		int ends[2];
		MUST(pipe(ends));
		outsider(ends[0]);
		close(ends[1]);
	} else if (!strcmp(what, "terminal-line") || !strcmp(what, "terminal-raw") || !strcmp(what, "terminal-end")) {
		/* Typed and not read: a line; bytes of which no line is made; the end of the input. */
		int ends[2];
		struct termios modes;
		MUST(openpty(&ends[0], &ends[1], NULL, NULL, NULL));
		MUST(tcgetattr(ends[1], &modes));
		modes.c_lflag &= ~ECHO;
		if (strstr(what, "raw"))
			cfmakeraw(&modes);
		MUST(tcsetattr(ends[1], TCSANOW, &modes));
		MUST(write(ends[0], strstr(what, "end") ? "\x04" : strstr(what, "raw") ? "abc" : "abc\n", strstr(what, "end") ? 1 : 3 + !strstr(what, "raw")));
	} else if (!strcmp(what, "terminal-long") || !strcmp(what, "terminal-held") || !strcmp(what, "terminal-async")) {
		/* A line that is not ended: too long to be shown; after ^S; of which a signal tells. */
		int ends[2];
		char text[4000];
		struct termios modes;
		MUST(openpty(&ends[0], &ends[1], NULL, NULL, NULL));
		MUST(tcgetattr(ends[1], &modes));
		modes.c_lflag &= ~ECHO;
		MUST(tcsetattr(ends[1], TCSANOW, &modes));
		memset(text, 'x', sizeof text);
		MUST(write(ends[0], text, strstr(what, "long") ? sizeof text : 4));
		if (strstr(what, "held"))
			MUST(write(ends[0], "\x13", 1));
		if (strstr(what, "async")) {
			/* It would end the program. */
			MUST(fcntl(ends[0], F_SETOWN, getpid()));
			MUST(fcntl(ends[0], F_SETFL, O_RDWR | O_ASYNC));
		}
	} else if (!strcmp(what, "terminal-output")) {
		int ends[2];
		MUST(openpty(&ends[0], &ends[1], NULL, NULL, NULL));
		MUST(write(ends[1], "unread", 6));
	} else if (!strcmp(what, "two-terminals")) {
		/* Slaves here, the masters in processes that are not part of the tree. */
		for (int i = 0; i < 2; i++) {
			int ends[2];
			MUST(openpty(&ends[0], &ends[1], NULL, NULL, NULL));
			outsider(ends[1]);
			close(ends[0]);
		}
	} else if (!strcmp(what, "terminal-in-use")) {
		int ends[2];
		MUST(openpty(&ends[0], &ends[1], NULL, NULL, NULL));
		outsider(ends[0]);
	} else if (!strcmp(what, "seccomp")) {
		struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
		struct sock_fprog program = { 1, allow };
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	} else if (!strcmp(what, "seccomp-return")) {
		/* The call by which a resumed thread goes on is forbidden. */
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = { 4, code };
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	} else if (!strcmp(what, "seccomp-listener")) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_alarm, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = { 4, code };
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		MUST(close(MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
					SECCOMP_FILTER_FLAG_NEW_LISTENER, &program))));
	} else if (!strcmp(what, "clone-vm")) {
		share(CLONE_VM);
	} else if (!strcmp(what, "clone-files")) {
		share(CLONE_FILES);
	} else if (!strcmp(what, "clone-fs")) {
		share(CLONE_FS);
	} else if (!strcmp(what, "vfork-soon")) {
		start_vfork(500);
	} else if (!strcmp(what, "vfork-never")) {
		start_vfork(1000000);
	} else if (!strcmp(what, "namespaces")) {
		int all = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
			  CLONE_NEWUTS | CLONE_NEWCGROUP | 0x80 /* CLONE_NEWTIME */;
		MUST(unshare(all));
	} else if (!strcmp(what, "undumpable")) {
		MUST(prctl(PR_SET_DUMPABLE, 0));
	} else if (!strcmp(what, "traced")) {
		pid_t me = getpid();
		int ends[2];
		char c;
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
		MUST(pipe(ends));
		if (!fork()) {
			if (fork())
				_exit(0);
			c = ptrace(PTRACE_SEIZE, me, 0, 0) ? 'n' : 'y';
			MUST(write(ends[1], &c, 1));
			for (int fd = 0; fd < 20; fd++)
				close(fd);
			/* Ends with the victim. */
			for (;;) {
				int status;
				if (waitpid(me, &status, __WALL) < 0 || WIFEXITED(status) || WIFSIGNALED(status))
					_exit(0);
				ptrace(PTRACE_CONT, me, 0, WIFSTOPPED(status) && !(status >> 16) ? WSTOPSIG(status) : 0);
			}
		}
		wait(NULL);
		MUST(read(ends[0], &c, 1));
		close(ends[0]);
		close(ends[1]);
		CHECK(c == 'y', "the tracer could not attach");
	} else if (!strcmp(what, "32-bit") || !strcmp(what, "nothing")) {
	} else {
		FAIL("no such state: %s", what);
	}
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		make(argv[i]);
	say("READY\n");
	await_verify();
	if (relative) {
		kill(relative, SIGKILL);
		waitpid(relative, NULL, 0);
	}
	if (child) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	if (zombie)
		SAME(waitpid(zombie, NULL, 0), zombie);
	ok();
}
