// A C++ program that opted in, with objects whose life decides.
//#Library: suspend
#include "consent.h"
#include <memory>
#include <vector>

static std::unique_ptr<suspend::hold> section;

static void other(const char *line)
{
	if (!strcmp(line, "hold"))
		section.reset(new suspend::hold);
	else if (!strcmp(line, "refuse"))
		section.reset(new suspend::hold(0, "burning a disc"));
	else if (!strcmp(line, "release"))
		section.reset();
	else
		FAIL("asked for '%s'", line);
	say("DONE\n");
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		veto |= !strcmp(argv[i], "veto");
	opt_in(0, 0, 0);
	ready();
	talk(other);
	if (!veto)
		await_told(), check_notes();
	ok();
}
