/* Unix sockets with names: a path, or an abstract one with '@' in front (unix(7)). */
#ifndef UNIX_NAMES_H
#define UNIX_NAMES_H

#include "victim.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	size_t n = strlen(name);
	memcpy(a->sun_path, name, n);
	if (name[0] == '@') {
		a->sun_path[0] = 0;
		return offsetof(struct sockaddr_un, sun_path) + n;
	}
	return offsetof(struct sockaddr_un, sun_path) + n + 1;
}

static int bound(int type, const char *name)
{
	struct sockaddr_un a;
	socklen_t length = address(&a, name);
	int s = MUST(socket(AF_UNIX, type, 0));
	MUST(bind(s, (void *)&a, length));
	return s;
}

#endif
