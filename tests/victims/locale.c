//#Modes: root user newpid empty leave
// A program in a UTF-8 locale maps gconv's cache shared and read-only.
#include "victim.h"
#include <locale.h>
#include <wchar.h>
#include <wctype.h>

int main(void)
{
	CHECK(setlocale(LC_ALL, "C.UTF-8"), "no C.UTF-8");
	wchar_t wide[20];
	mbstowcs(wide, "gr\xc3\xbc\xc3\x9f", 20);
	ready();
	await_verify();
	SAME(mbstowcs(wide, "gr\xc3\xbc\xc3\x9f", 20), 4);
	SAME(towupper(wide[2]), 0xdc);
	CHECK(!strcmp(setlocale(LC_ALL, NULL), "C.UTF-8"), "locale");
	ok();
}
