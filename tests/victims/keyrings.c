//#Modes: none
// Keys in keyrings of a session, of the process and of a thread.
#include "victim.h"
#include <linux/keyctl.h>

static pthread_barrier_t made;

static void add(const char *name, long keyring)
{
	MUST(syscall(SYS_add_key, "user", name, "secret", 6, keyring));
}

static void *thread(void *unused)
{
	(void)unused;
	add("one", KEY_SPEC_THREAD_KEYRING);
	pthread_barrier_wait(&made);
	pause();
	return NULL;
}

int main(void)
{
	pthread_t t;
	MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "a name"));
	add("one", KEY_SPEC_SESSION_KEYRING);
	add("two", KEY_SPEC_SESSION_KEYRING);
	add("three", KEY_SPEC_SESSION_KEYRING);
	add("one", KEY_SPEC_PROCESS_KEYRING);
	add("two", KEY_SPEC_PROCESS_KEYRING);
	pthread_barrier_init(&made, NULL, 2);
	MUST(pthread_create(&t, NULL, thread, NULL));
	pthread_barrier_wait(&made);
	ready();
	await_verify();
	ok();
}
