// Memory as a file: contents with holes, size, name, seals, duplicates and further openings.
#include "victim.h"

int main(void)
{
	int fd = MUST(memfd_create("a name", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	MUST(ftruncate(fd, 64 << 20));
	MUST(pwrite(fd, "begin", 5, 100));
	MUST(pwrite(fd, "middle", 6, (32 << 20) - 3));
	MUST(lseek(fd, 1234, SEEK_SET));
	int copy = MUST(dup(fd));
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int reader = MUST(open(path, O_RDONLY));
	MUST(lseek(reader, 100, SEEK_SET));
	MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
	int plain = MUST(memfd_create("plain", 0));
	MUST(write(plain, "0123456789", 10));
	char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, plain, 0);
	CHECK(private != MAP_FAILED, "mmap: %s", strerror(errno));
	private[0] = 'P';
	ready();
	await_verify();
	struct stat s;
	MUST(fstat(fd, &s));
	SAME(s.st_size, 64 << 20);
	CHECK(s.st_blocks < 2000, "the holes take %lld blocks", (long long)s.st_blocks);
	SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_WRITE);
	SAME(lseek(copy, 0, SEEK_CUR), 1234);
	MUST(lseek(copy, 99, SEEK_SET));
	SAME(lseek(fd, 0, SEEK_CUR), 99);
	char text[16] = "";
	SAME(read(reader, text, 5), 5);
	CHECK(!strcmp(text, "begin"), "it reads '%s'", text);
	SAME(pread(fd, text, 6, (32 << 20) - 3), 6);
	CHECK(!memcmp(text, "middle", 6), "it reads '%s'", text);
	SAME(write(fd, "x", 1), -1);
	SAME(errno, EPERM);
	SAME(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
	MUST(write(plain, "ab", 2));
	SAME(pread(plain, text, 12, 0), 12);
	CHECK(!memcmp(text, "0123456789ab", 12), "it reads '%.12s'", text);
	CHECK(private[0] == 'P' && private[1] == '1', "the private copy differs");
	char link[64] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", plain);
	MUST(readlink(path, link, sizeof link - 1));
	CHECK(strstr(link, "memfd:plain"), "it is called %s", link);
	ok();
}
