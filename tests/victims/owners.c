//#Modes: root user newpid
// What a program has made belongs to its user, whoever resumes it: pipes, sockets, memory files and
// deleted files can be opened anew by way of /proc/self/fd, and given another mode.
#include "victim.h"
#include <dirent.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void is_mine(int fd, const char *what)
{
	struct stat st;
	MUST(fstat(fd, &st));
	CHECK(st.st_uid == geteuid() && st.st_gid == getegid(), "%s belongs to %u:%u", what, st.st_uid, st.st_gid);
}

static int anew(int fd, int flags)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return MUST(open(path, flags));
}

static int shared_port(struct sockaddr_in *at)
{
	int s = MUST(socket(AF_INET, SOCK_DGRAM, 0)), on = 1;
	MUST(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	MUST(bind(s, (void *)at, sizeof *at));
	return s;
}

int main(void)
{
	int pipes[2], pair[2];
	MUST(pipe(pipes));
	MUST(write(pipes[1], "waits", 5));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	int memory = MUST(memfd_create("memory", 0));
	MUST(fchmod(memory, 0600));
	MUST(write(memory, "memory", 6));
	int gone = MUST(open("gone", O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(write(gone, "gone", 4));
	MUST(unlink("gone"));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof at;
	MUST(getsockname(shared_port(&at), (void *)&at, &length));
	struct sockaddr_in first = at;
	int port = shared_port(&first);
	struct sockaddr_un door = { .sun_family = AF_UNIX, .sun_path = "door" };
	int listening = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	unlink("door");
	MUST(bind(listening, (void *)&door, sizeof door));
	MUST(listen(listening, 1));
	ready();
	await_verify();

	char text[10];
	is_mine(pipes[0], "the pipe");
	SAME(read(anew(pipes[0], O_RDONLY), text, 10), 5);
	MUST(write(anew(pipes[1], O_WRONLY), "more", 4));
	SAME(read(pipes[0], text, 10), 4);
	is_mine(pair[0], "a socket");
	is_mine(pair[1], "a socket");
	is_mine(memory, "the memory file");
	SAME(read(anew(memory, O_RDWR), text, 10), 6);
	MUST(fchmod(memory, 0640));
	is_mine(gone, "the deleted file");
	SAME(read(anew(gone, O_RDWR), text, 10), 4);
	MUST(fchmod(gone, 0640));
	is_mine(port, "the port");
	shared_port(&first);
	struct stat st;
	MUST(stat("door", &st));
	SAME(st.st_uid, geteuid());
	MUST(connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&door, sizeof door));
	ok();
}
