/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A USB stick as a character device: the structures shared by the files of
 * the driver, and the argument why unplugging at any moment is safe.
 *
 * Who owns what
 *
 *   struct pen_dev  one USB interface. Counted by a kref: one reference from
 *                   probe to disconnect, one for each of its logical units.
 *   struct pen_lun  one logical unit, the thing behind /dev/penN. Its struct
 *                   device counts it. An open file pins the cdev (the VFS),
 *                   the cdev pins the struct device (cdev_device_add), and
 *                   that holds the pen_dev. Memory, and the minor, go with
 *                   the last reference, never earlier; so a file that stays
 *                   open across an unplug keeps its number away from the
 *                   next stick.
 *
 * Who talks to the stick
 *
 *   After the scan only the unit's work item (pen_cache.c) issues commands;
 *   system calls ask it and wait killably. A signal therefore never leaves a
 *   command half done, and a killed program leaves at once. Work items of
 *   several units of one stick are serialised by pen_dev::io, because the
 *   transport knows one command at a time.
 *
 * Locks, outermost first
 *
 *   the USB device lock (usbcore)  probe, disconnect, reset, suspend
 *   pen_dev::pm                    balances the autosuspend references
 *   pen_dev::io                    one command, from CBW to CSW with sense
 *   pen_lun::lock                  all fields of the unit and of its buffers
 *
 *   pen_lun::lock is held for moments only: not across a command, and not
 *   while bytes are copied from or to a program (which may fault and sleep
 *   for as long as that program's pager likes). A copying program pins the
 *   one buffer instead, and the work item leaves pinned buffers alone. So
 *   disconnect, which takes pen_lun::lock, never waits for user space.
 *
 *   pen_dev::io is held by pre_reset until post_reset, under the device lock.
 *   Whoever wants a port reset drops io first and then asks for the device
 *   lock (pen_bot.c); usbcore refuses it to us while disconnect runs.
 *
 * Unplugging
 *
 *   disconnect (1) removes the nodes, so no new file appears; (2) if the
 *   stick still answers (rmmod, unbind) writes back what is dirty; (3) sets
 *   PEN_GONE and poisons the anchor: the transfer in flight ends now, later
 *   ones fail to start; (4) takes each unit's lock once, so everybody who
 *   saw the unit alive has queued his request, and nobody queues after
 *   that; (5) cancels the work items, waiting for a running one, whose every
 *   wait also ends with PEN_GONE; (6) drops the buffers, noting lost bytes
 *   for the next fsync or close of each writer; (7) wakes all sleepers.
 *   After (5) nothing touches usb_device or usb_interface again: files that
 *   are still open see PEN_GONE first (-ENODEV, EPOLLHUP).
 *
 *   open() racing with (1) finds either no cdev or a live unit. It checks
 *   PEN_GONE under pen_dev::pm before it takes the autosuspend reference, and
 *   release() gives that reference back only under the same lock and only if
 *   PEN_GONE is not set, since usbcore resets the count when it unbinds.
 *
 * Sleeping
 *
 *   An open file keeps the stick awake. The last one that is closed leaves its
 *   reference to the unit (pen_lun::awake) when there are commands under way
 *   or bytes unwritten, and the work item gives it back when there are none.
 *   So autosuspend never meets a command, and suspend need not wait for the
 *   work item, which may itself be waiting for a port reset that usbcore
 *   lets nobody make meanwhile.
 */
#ifndef PEN_H
#define PEN_H

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/uio.h>
#include <linux/usb.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "pen_proto.h"

#define PEN_NAME		"pen_driver"
#define PEN_MINORS		256
#define PEN_MAX_LUNS		16

/* Pieces this small are found on a fragmented machine; 32 make 1 MiB. */
#define PEN_CHUNK		(32u << 10)
#define PEN_CHUNKS		32
#define PEN_MAX_BLOCKS		2048
#define PEN_BUFS		4
#define PEN_SMALL		512

/* pen_dev::flags */
#define PEN_GONE		0	/* nothing may reach the stick any more */
#define PEN_STOPPING		1	/* disconnect has begun: stop waiting */
#define PEN_BOGUS_RESIDUE	2	/* the residue field means nothing */
#define PEN_LEARNED		3	/* the CSW signature is settled */

struct pen_stats {
	atomic64_t commands;
	atomic64_t bytes_in;
	atomic64_t bytes_out;
	atomic64_t retries;
	atomic64_t resets;
	atomic64_t stalls;
};

struct pen_dev {
	struct kref kref;
	struct usb_device *udev;
	struct usb_interface *intf;
	unsigned long flags;
	unsigned int in_pipe;
	unsigned int out_pipe;
	u8 ifnum;

	struct mutex io;		/* serialises commands */
	struct mutex pm;		/* autosuspend references against GONE */
	struct urb *urb;		/* the one transfer, under io */
	struct usb_anchor anchor;
	bool urb_done;
	wait_queue_head_t wait;		/* end of transfer, GONE, STOPPING */
	u32 tag;
	u32 signature;
	/* Separate allocations: each is mapped for DMA on its own. */
	u8 *cbw;
	u8 *csw;
	u8 *sense;

	struct work_struct scan;
	unsigned int max_sectors;	/* by speed and host controller */
	u32 map_limit;
	unsigned int nluns;
	struct pen_lun *luns[PEN_MAX_LUNS];
	struct pen_stats stats;
};

/*
 * A buffer holds one window of the medium: a run of bytes that starts at a
 * multiple of the window size, so that buffers never overlap. Guarded by
 * pen_lun::lock; the bytes themselves belong to whoever set io (the work
 * item), writer or readers.
 */
struct pen_buf {
	u64 index;
	bool used;
	bool io;			/* the work item is at it */
	bool writer;			/* a program copies into it */
	bool flush;			/* write back what is dirty */
	bool ahead;			/* wanted by read-ahead only */
	unsigned int readers;		/* pins; no other window meanwhile */
	u32 blocks;			/* of the medium in this window */
	u32 want_first;			/* blocks to fetch, none when equal */
	u32 want_end;
	int tail_block;			/* begun, its end unknown; or -1 */
	u32 tail_len;
	int error;			/* why a bad block is bad */
	u64 stamp;			/* of the last use */
	DECLARE_BITMAP(valid, PEN_MAX_BLOCKS);
	DECLARE_BITMAP(dirty, PEN_MAX_BLOCKS);
	DECLARE_BITMAP(bad, PEN_MAX_BLOCKS);
	struct scatterlist sg[PEN_CHUNKS];
	void *chunk[PEN_CHUNKS];
};

struct pen_lun {
	struct device dev;
	struct cdev cdev;
	struct pen_dev *pen;
	u8 number;
	int minor;
	bool registered;

	struct mutex lock;		/* everything below */
	wait_queue_head_t wait;		/* with events, for all waiters */
	unsigned long events;
	struct work_struct work;
	struct delayed_work idle;	/* writes back when nobody asks */
	bool dead;			/* no more work may be queued */

	/* The medium. gen changes whenever it may be another one. */
	unsigned int gen;
	bool present;
	bool read_only;
	bool removable;
	bool no_sync;			/* the stick has no cache to flush */
	bool verify;			/* power was lost: is it the same? */
	struct pen_geometry geo;
	u64 size;
	u32 window;
	unsigned int max_sectors;
	struct pen_inquiry inquiry;
	u32 last_sense;			/* key, asc, ascq, a byte each */

	unsigned int opens;
	bool excl;
	unsigned int awake;		/* autosuspend references, see below */
	struct pen_buf *buf[PEN_BUFS];
	u64 clock;
	bool unsynced;			/* written since the last flush */
	u64 sync_req;
	u64 sync_done;
	u64 check_req;
	u64 check_done;
	int check_error;
	errseq_t wb_err;		/* reported once to each open file */

	/* Only for whoever issues commands: the work item, or the scan. */
	u8 *small;
	u8 *bounce;
};

struct pen_file {
	struct pen_lun *lun;
	unsigned int gen;
	bool excl;
	bool pm;
	bool wrote;			/* since the last sync by this file */
	errseq_t since;
	loff_t next;			/* where a sequential reader goes on */
	u64 streak;
};

/* One SCSI command. */
struct pen_cmd {
	u8 cdb[PEN_CDB_MAX];
	u8 cdb_len;
	bool in;
	bool exact;			/* less than len is an error */
	bool judge_residue;		/* a full answer exposes a bogus one */
	bool accept_change;		/* the caller reads everything anew */
	struct scatterlist *sg;
	int nents;
	u32 len;
	u32 actual;
	unsigned int timeout_ms;
	unsigned int ready_ms;		/* how long to wait for readiness */
	struct pen_sense sense;
};

#define PEN_CHECK		1	/* CHECK CONDITION, see pen_cmd::sense */

extern unsigned int pen_timeout_ms;
extern unsigned int pen_flush_timeout_ms;
extern bool pen_sync_on_close;
extern bool pen_force_read_only;
extern struct workqueue_struct *pen_wq;

static inline bool pen_gone(struct pen_dev *pen)
{
	return test_bit(PEN_GONE, &pen->flags) ||
	       pen->udev->state == USB_STATE_NOTATTACHED;
}

/* pen_bot.c */
int pen_bot_run(struct pen_dev *pen, u8 lun, struct pen_cmd *cmd,
		unsigned int attempt);
unsigned int pen_bot_max_lun(struct pen_dev *pen);
bool pen_sleep(struct pen_dev *pen, unsigned int ms);

/* pen_scsi.c */
int pen_scsi_identify(struct pen_lun *lun);
int pen_scsi_revalidate(struct pen_lun *lun, unsigned int ready_ms);
int pen_scsi_ready(struct pen_lun *lun);
bool pen_scsi_same(struct pen_lun *lun);
int pen_scsi_rw(struct pen_lun *lun, bool write, u64 lba, u32 blocks,
		struct scatterlist *sg, int nents);
int pen_scsi_sync(struct pen_lun *lun);

/* pen_buffer.c */
void pen_buf_forget(struct pen_buf *buf);
bool pen_buf_is_dirty(const struct pen_buf *buf);
int pen_cache_alloc(struct pen_lun *lun);
void pen_cache_trim(struct pen_lun *lun);
void pen_cache_free(struct pen_lun *lun);
void pen_cache_invalidate(struct pen_lun *lun);
bool pen_cache_busy(struct pen_lun *lun);
void pen_cache_stop_ahead(struct pen_lun *lun);
void pen_cache_lose(struct pen_lun *lun, int error);
bool pen_cache_dirty(struct pen_lun *lun);

/* pen_cache.c */
void pen_cache_init(struct pen_lun *lun);
void pen_cache_wake(struct pen_lun *lun);
int pen_cache_sync(struct pen_lun *lun, unsigned int timeout_ms);
int pen_cache_check(struct pen_lun *lun);
ssize_t pen_cache_read(struct pen_file *file, loff_t pos, struct iov_iter *to);
ssize_t pen_cache_write(struct pen_file *file, loff_t pos,
			struct iov_iter *from);
void pen_cache_shutdown(struct pen_lun *lun);

/* pen_work.c */
void pen_lun_kick(struct pen_lun *lun);
void pen_lun_work(struct work_struct *work);
void pen_lun_idle(struct work_struct *work);
void pen_lun_medium_lost(struct pen_lun *lun, int error);

/* pen_dev.c */
extern struct class pen_class;
int pen_dev_init(void);
void pen_dev_exit(void);
struct pen_lun *pen_lun_create(struct pen_dev *pen, u8 number);
int pen_lun_register(struct pen_lun *lun);
void pen_lun_unregister(struct pen_lun *lun);
void pen_power_put(struct pen_dev *pen, unsigned int references);

/* pen_sysfs.c */
extern const struct attribute_group *pen_lun_groups[];

/* pen_main.c */
void pen_dev_put(struct pen_dev *pen);

#endif
