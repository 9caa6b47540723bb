//#Modes: root leave
// Users, groups, supplementary groups and capabilities of a process that changed them.
#include "victim.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>

static void caps(uint32_t out[6])
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	MUST(syscall(SYS_capget, &h, d));
	memcpy(out, d, 24);
}

int main(void)
{
	uint32_t then[6], now[6];
	int root = getuid() == 0;
	gid_t groups[3] = { 4, 1234, 99999 }, groups_now[32];
	if (root) {
		MUST(prctl(PR_SET_KEEPCAPS, 1));
		MUST(prctl(PR_SET_SECUREBITS, 1 << 2 | 1 << 4));
		MUST(setgroups(3, groups));
		MUST(setresgid(1000, 1001, 1002));
		MUST(setresuid(2000, 0, 2002));
		MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME));
		struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
		struct __user_cap_data_struct d[2];
		MUST(syscall(SYS_capget, &h, d));
		d[0].effective &= ~(1u << CAP_NET_RAW);
		d[0].inheritable = 1u << CAP_NET_BIND_SERVICE;
		MUST(syscall(SYS_capset, &h, d));
		MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
		MUST(prctl(PR_SET_DUMPABLE, 1));
	}
	caps(then);
	uid_t r, e, s;
	gid_t gr, ge, gs;
	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	int bits = prctl(PR_GET_SECUREBITS), keep = prctl(PR_GET_KEEPCAPS);
	ready();
	await_verify();
	uid_t r2, e2, s2;
	getresuid(&r2, &e2, &s2);
	SAME(r2, r);
	SAME(e2, e);
	SAME(s2, s);
	getresgid(&r2, &e2, &s2);
	SAME(r2, gr);
	SAME(e2, ge);
	SAME(s2, gs);
	SAME(setfsuid(-1), e);
	if (root) {
		SAME(getgroups(32, groups_now), 3);
		CHECK(!memcmp(groups, groups_now, sizeof groups), "supplementary groups differ");
		SAME(prctl(PR_CAPBSET_READ, CAP_SYS_TIME), 0);
		SAME(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
		SAME(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0), 1);
		SAME(prctl(PR_GET_SECUREBITS), bits);
		SAME(prctl(PR_GET_KEEPCAPS), keep);
	}
	caps(now);
	for (int i = 0; i < 6; i++)
		SAME(now[i], then[i]);
	ok();
}
