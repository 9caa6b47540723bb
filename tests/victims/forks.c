//#Flags: -ldl
// Starts children, programs and libraries after it was resumed.
#include "victim.h"
#include <dlfcn.h>
#include <sys/wait.h>

int main(void)
{
	char *keep = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *wipe = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(madvise(wipe, 8192, MADV_WIPEONFORK));
	strcpy(keep, "kept");
	strcpy(wipe, "wiped");
	ready();
	await_verify();
	pid_t child = MUST(fork());
	if (!child)
		_exit(strcmp(keep, "kept") || *wipe ? 1 : 23);
	int status;
	SAME(waitpid(child, &status, 0), child);
	SAME(WEXITSTATUS(status), 23);
	CHECK(!strcmp(wipe, "wiped"), "wiped in the parent");
	SAME(system("exit 5") >> 8, 5);
	char line[64] = "";
	FILE *f = popen("echo from a pipe", "r");
	CHECK(f && fgets(line, sizeof line, f), "popen");
	SAME(pclose(f), 0);
	CHECK(!strcmp(line, "from a pipe\n"), "popen gave '%s'", line);
	void *library = dlopen("libm.so.6", RTLD_NOW);
	CHECK(library, "dlopen: %s", dlerror());
	double (*cosine)(double) = (double (*)(double))dlsym(library, "cos");
	CHECK(cosine && cosine(0) == 1.0, "a function from a fresh library");
	ok();
}
