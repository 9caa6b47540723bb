/* Messages that carry descriptors. */
#ifndef FLIGHTS_H
#define FLIGHTS_H
#include "victim.h"
#include <sys/socket.h>

/* Sends a descriptor with one byte. */
static void give(int to, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec body = { "x", 1 };
	struct msghdr message = { .msg_iov = &body, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof control };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	SAME(MUST(sendmsg(to, &message, 0)), 1);
}

/* The same, of one that only the message holds from then on. */
static UNUSED void give_away(int to, int fd)
{
	give(to, fd);
	MUST(close(fd));
}

static UNUSED int take(int from)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec body = { &byte, 1 };
	struct msghdr message = { .msg_iov = &body, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof control };
	SAME(MUST(recvmsg(from, &message, MSG_DONTWAIT)), 1);
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	CHECK(head && head->cmsg_type == SCM_RIGHTS, "no descriptor came");
	int fd;
	memcpy(&fd, CMSG_DATA(head), sizeof fd);
	return fd;
}
#endif
