//#Modes: none
//#Flags: -lrt
// States that a dump refuses, chosen by the arguments; the process must not notice any of it.
#include "victim.h"
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <pty.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static pid_t child, zombie;

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
		MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
	} else if (!strcmp(what, "pidfd")) {
		MUST(syscall(SYS_pidfd_open, getpid(), 0));
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
	} else if (!strcmp(what, "outside-pipe")) {
		/* One end here, the other in a process that is not part of the tree. */
		int ends[2];
		MUST(pipe(ends));
		outsider(ends[0]);
		close(ends[1]);
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
	if (child) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	if (zombie)
		SAME(waitpid(zombie, NULL, 0), zombie);
	ok();
}
