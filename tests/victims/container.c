//#Modes: none
// Runs a command as the first process of a container: a pid namespace with its own /proc, under a
// seccomp filter that everything in it inherits.
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_reboot, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };
	int status;
	if (argc < 2)
		return 2;
	MUST(unshare(CLONE_NEWPID | CLONE_NEWNS));
	pid_t first = MUST(fork());
	if (!first) {
		MUST(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		MUST(mount("proc", "/proc", "proc", 0, NULL));
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
		execv(argv[1], argv + 1);
		_exit(99);
	}
	MUST(waitpid(first, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}
