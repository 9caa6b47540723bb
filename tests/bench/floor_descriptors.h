/* What must be asked about the descriptors of a process that stands; part of floor_answers.c. */
#ifndef FLOOR_DESCRIPTORS_H
#define FLOOR_DESCRIPTORS_H
#include "floor_calls.h"
#include <dirent.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Room for what a directory lists: 24 bytes for each. */
enum { LISTED = 256 << 10 };

static char listed[LISTED];
/* Met so far. */
static int sockets;

/* What it is and what it was set to; of these a new one may have others. */
static inline void ask_socket(int fd)
{
	static const int names[] = {
		SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_PEERCRED, SO_REUSEADDR, SO_KEEPALIVE,
		SO_PRIORITY, SO_LINGER, SO_PASSCRED, SO_PASSSEC, SO_RCVLOWAT, SO_RCVTIMEO,
		SO_SNDTIMEO, SO_TIMESTAMP, 72 /* SO_BUF_LOCK */, SO_GET_FILTER,
	};
	char value[64];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		/* Of a filter the number of instructions is asked, by no room for them. */
		socklen_t length = names[i] == SO_GET_FILTER ? 0 : sizeof value;

		ask("getsockopt", SYS_getsockopt, fd, SOL_SOCKET, names[i], value, &length);
	}
	sockets++;
}

static inline void ask_pipe(int fd)
{
	int waiting;

	ask("FIONREAD", SYS_ioctl, fd, FIONREAD, &waiting);
	ask("F_GETPIPE_SZ", SYS_fcntl, fd, F_GETPIPE_SZ);
}

/* A duplicate tells most, and quicker than /proc. Only what has a name has its link read. */
static inline void ask_descriptor(int pidfd, int infos, int links, const char *name)
{
	struct stat stat;
	int owner[2];
	int fd = ask("pidfd_getfd", SYS_pidfd_getfd, pidfd, atoi(name), 0);

	ask("fstat", SYS_fstat, fd, &stat);
	ask("F_GETOWN_EX", SYS_fcntl, fd, F_GETOWN_EX, owner);
	ask("F_GETSIG", SYS_fcntl, fd, F_GETSIG);
	if (S_ISSOCK(stat.st_mode))
		ask_socket(fd);
	if (S_ISFIFO(stat.st_mode))
		ask_pipe(fd);
	ask("close", SYS_close, fd);
	read_record(infos, name);
	if (!S_ISSOCK(stat.st_mode) && !S_ISFIFO(stat.st_mode) && !strstr(buffer, "eventfd-count:"))
		read_link(links, name);
}

static inline void ask_descriptors(const struct process *process)
{
	const struct process *other = process->parent;
	int pidfd = ask("pidfd_open", SYS_pidfd_open, process->pid, 0);
	int infos = ask("fdinfo", SYS_openat, process->dir, "fdinfo", O_RDONLY | O_DIRECTORY);
	int links = ask("fd", SYS_openat, process->dir, "fd", O_PATH | O_DIRECTORY);
	long length = ask("getdents64", SYS_getdents64, infos, listed, sizeof listed);
	int before = -1;

	/* The kernel fills what room there is: as more was left than a name takes, that was all. */
	demand(length < (long)sizeof listed - 512, "more descriptors than expected");
	for (long at = 0; at < length;) {
		struct dirent64 *entry = (struct dirent64 *)(listed + at);
		int fd = atoi(entry->d_name);

		at += entry->d_reclen;
		if (entry->d_name[0] == '.')
			continue;
		ask_descriptor(pidfd, infos, links, entry->d_name);
		/* Who shares descriptions takes a question for each at least: here whether it is
		 * that of the one before, and for the first whether it is that of the parent's. */
		if (other)
			compare(other, process, SAME_FILE, before < 0 ? fd : before, fd);
		other = process, before = fd;
	}
	ask("close", SYS_close, links);
	ask("close", SYS_close, infos);
	ask("close", SYS_close, pidfd);
}

/* About all Unix sockets there are: a question about one takes the kernel through all as well. */
static inline void ask_diag(void)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req body;
	} request = {
		{ sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0 },
		{ .sdiag_family = AF_UNIX, .udiag_states = -1,
		  .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
				UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN },
	};
	int channel = ask("netlink", SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	struct nlmsghdr *answer = (struct nlmsghdr *)buffer;

	ask("sendto", SYS_sendto, channel, &request, sizeof request, 0, 0, 0);
	do {
		ask("recvfrom", SYS_recvfrom, channel, buffer, 64 << 10, 0, 0, 0);
		demand(answer->nlmsg_type != NLMSG_ERROR, "sock_diag");
	} while (answer->nlmsg_type != NLMSG_DONE);
	ask("close", SYS_close, channel);
}
#endif
