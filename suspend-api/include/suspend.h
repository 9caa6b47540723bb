/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * For programs that want a say in their suspension by dumper(1), and to be told when they are
 * resumed. See suspend(3).
 */
#ifndef SUSPEND_H
#define SUSPEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a reason, its end included. */
#define SUSPEND_REASON 256

/* Flags of struct suspend_options. */
#define SUSPEND_IN_HANDLER 1u /* callbacks run in the signal handler */
#define SUSPEND_TRACEABLE 2u  /* any process of this user may trace this one (Yama) */

struct suspend_options {
	int suspend_signal; /* 0: SIGUSR1 */
	int resume_signal;  /* 0: SIGUSR2 */
	uint32_t flags;
};

/* What a suspend callback is told, and where it says why it refuses. */
struct suspend_request {
	uint32_t timeout_ms;    /* how long the answer of this process is waited for */
	uint32_t leave_running; /* 1: the process will run on afterwards */
	char reason[SUSPEND_REASON];
};

/* How a suspension ended. */
enum {
	SUSPEND_RESUMED = 1,   /* this process was brought back by an image */
	SUSPEND_CONTINUED = 2, /* this is the original, which runs on while its image is completed */
	SUSPEND_CANCELLED = 3, /* there is no image; see reason */
};

/* What a resume callback is told. */
struct suspend_outcome {
	uint32_t event;         /* one of the above */
	uint32_t other_machine; /* 1: on another machine */
	uint32_t other_pid;     /* 1: under another process id */
	uint32_t resumes;       /* how often the process was resumed so far */
	uint64_t elapsed_ns;    /* wall-clock time since it was suspended */
	uint8_t random[16];     /* differs in every resume, also in those of one image */
	char reason[SUSPEND_REASON];
};

/* Opts the process in; NULL: SIGUSR1 and SIGUSR2, callbacks on a thread of the library. 0, or -1 with
 * EALREADY (it has been), EBUSY (the program handles one of the signals itself), EINVAL, or what
 * the system said. */
int suspend_init(const struct suspend_options *options);

/* Registers a pair of callbacks, either of which may be NULL; gives an id above 0. A suspend callback
 * refuses by a result other than 0. They run last registered first, resume callbacks first registered
 * first. */
int suspend_register(int (*suspend)(void *context, struct suspend_request *request),
		     void (*resume)(void *context, const struct suspend_outcome *outcome),
		     void *context);

/* On return neither of the two runs any more, unless it is one of them that called. 0, or -1 with
 * ENOENT. */
int suspend_unregister(int id);

/* Begins and ends a section in which the process is not suspended. Sections nest, thread by thread.
 * Without a system call, unless a suspension is under way: then beginning one waits for its outcome. */
void suspend_hold(void);
void suspend_release(void);

/* The same for a section that a suspension waits for only so long: 0 has it refused at once, less than
 * 0 is to the end. The reason is told to whoever wanted to suspend; NULL, or a string that stays until
 * suspend_release. */
void suspend_hold_for(int wait_ms, const char *reason);

/* Begins a section unless a suspension is under way: 0, or -1 with EAGAIN. */
int suspend_try_hold(void);

/* Flags of suspend_self. */
#define SUSPEND_LEAVE_RUNNING 1u /* the original goes on once there is an image */
#define SUSPEND_FORCE 2u	 /* a file of this name is replaced */

/* Starts dumper (or what the environment's DUMPER names) on this process. Returns as fork does: 0 in the
 * original, if that goes on, 1 in every process that the image brings back; -1 if there is no image, with
 * the reason in suspend_error. By one thread at a time. */
int suspend_self(const char *file, uint32_t flags);
const char *suspend_error(void);

#ifdef __cplusplus
}

namespace suspend {
/* A section as long as the object lives. */
class hold {
    public:
	hold() { suspend_hold(); }
	hold(int wait_ms, const char *reason) { suspend_hold_for(wait_ms, reason); }
	~hold() { suspend_release(); }
	hold(const hold &) = delete;
	hold &operator=(const hold &) = delete;
};
} // namespace suspend
#endif

#endif
