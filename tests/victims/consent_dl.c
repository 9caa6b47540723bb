// A program that loads the shared library itself, opts in, and lets go of the library again.
//#Library: suspend shared
//#Flags: -Wl,--as-needed
//#Modes: none
#include "victim.h"
#include <dlfcn.h>
#include <suspend.h>

static volatile int asked, event;

static int on_suspend(void *nothing, struct suspend_request *request)
{
	(void)nothing, (void)request;
	asked++;
	return 0;
}

static void on_resume(void *nothing, const struct suspend_outcome *outcome)
{
	(void)nothing;
	event = outcome->event;
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);
	CHECK(found, "%s: %s", name, dlerror());
	return found;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2, "where is the library?");
	CHECK(!dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD), "it is there already");
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	CHECK(library, "%s", dlerror());
	int (*init)(const struct suspend_options *) = symbol(library, "suspend_init");
	int (*add)(int (*)(void *, struct suspend_request *),
		   void (*)(void *, const struct suspend_outcome *), void *) =
		symbol(library, "suspend_register");
	MUST(init(NULL));
	CHECK(add(on_suspend, on_resume, NULL) > 0, "no id");
	MUST(dlclose(library));
	for (int i = 0; i < 1000; i++)
		kill(getpid(), i & 1 ? SIGUSR1 : SIGUSR2);
	ready();
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "log"))
			say("LOG asked %d event %d.\n", asked, event);
		else if (!strcmp(line, "verify"))
			break;
	}
	ok();
}
