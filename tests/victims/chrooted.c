//#Modes: root left
// A process that has changed its root directory: where it is, what it finds, and that the way up ends at
// that root.
#include "victim.h"

static void is_inside(const char *wanted)
{
	char cwd[4096];
	struct stat root, top;
	CHECK(getcwd(cwd, sizeof cwd), "getcwd: %s", strerror(errno));
	CHECK(!strcmp(cwd, wanted), "the working directory is %s, was %s", cwd, wanted);
	MUST(stat("/", &root));
	MUST(stat("../../..", &top));
	CHECK(root.st_ino == top.st_ino && root.st_dev == top.st_dev, "the way up leads outside");
}

int main(int argc, char **argv)
{
	int gone = argc > 1 && !strcmp(argv[1], "gone");
	if (geteuid()) {
		/* Only root may change it. */
		ready();
		await_verify();
		ok();
	}
	MUST(mkdir("jail", 0755));
	MUST(mkdir("jail/inner", 0755));
	MUST(chroot("jail"));
	MUST(chdir("/inner"));
	int kept = MUST(open("kept.txt", O_RDWR | O_CREAT | O_EXCL, 0644));
	MUST(write(kept, "kept", 4));
	ready();
	await_verify();
	/* Where the working directory is not there, the root directory takes its place. */
	is_inside(gone ? "/" : "/inner");
	char text[8] = "";
	SAME(pread(kept, text, 8, 0), 4);
	if (!gone) {
		CHECK(access("kept.txt", R_OK) == 0, "the file is not found from the working directory");
		CHECK(access("/inner/kept.txt", R_OK) == 0, "the file is not found from the root directory");
	}
	ok();
}
