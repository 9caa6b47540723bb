// SPDX-License-Identifier: GPL-2.0-only
/*
 * SCSI commands with their retries. Every function here sleeps and is called
 * by the unit's work item or by the scan, without pen_lun::lock.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "pen.h"

#define TRANSPORT_TRIES		3
#define TIMEOUT_TRIES		2
#define SENSE_TRIES		3
#define ATTENTION_TRIES		10
#define POLL_MS			1000
#define INQUIRY_LEN		36
#define MODE_SENSE_LEN		192
#define MODE_PAGE_ALL		0x3f
#define CAPACITY16_LEN		32

static void pen_start_unit(struct pen_lun *lun)
{
	struct pen_cmd cmd = { .timeout_ms = pen_timeout_ms };

	cmd.cdb_len = pen_cdb_start_unit(cmd.cdb);
	pen_bot_run(lun->pen, lun->number, &cmd, 0);
}

/*
 * Runs a command to its end. Beside 0 and errors for programs: -ETIMEDOUT and
 * -EPROTO for a transport that gave up, -ESTALE for a medium that may be
 * another one, -EOPNOTSUPP, -ERANGE.
 */
static int pen_scsi_run(struct pen_lun *lun, struct pen_cmd *cmd)
{
	struct pen_dev *pen = lun->pen;
	unsigned long deadline = jiffies + msecs_to_jiffies(cmd->ready_ms);
	unsigned int transport = 0, sense = 0, attention = 0;
	bool started = false;
	int ret;

	for (;;) {
		ret = pen_bot_run(pen, lun->number, cmd, transport);
		if (!ret || ret == -ENODEV)
			return ret;
		if (ret < 0) {
			transport++;
			if (ret == -ETIMEDOUT && transport >= TIMEOUT_TRIES)
				return ret;
			if (transport >= TRANSPORT_TRIES)
				return ret == -ETIMEDOUT ? ret : -EPROTO;
			atomic64_inc(&pen->stats.retries);
			continue;
		}

		WRITE_ONCE(lun->last_sense, cmd->sense.key << 16 |
			   cmd->sense.asc << 8 | cmd->sense.ascq);
		switch (pen_sense_action(&cmd->sense)) {
		case PEN_ACT_DONE:
			if (!cmd->exact || cmd->actual == cmd->len)
				return 0;
			fallthrough;
		case PEN_ACT_RETRY:
			if (++sense >= SENSE_TRIES)
				return -EIO;
			break;
		case PEN_ACT_RETRY_RESET:
			if (++attention >= ATTENTION_TRIES)
				return -EIO;
			break;
		case PEN_ACT_START:
			if (!started)
				pen_start_unit(lun);
			started = true;
			fallthrough;
		case PEN_ACT_WAIT:
			if (time_after(jiffies, deadline))
				return -EIO;
			if (pen_sleep(pen, POLL_MS))
				return -ENODEV;
			break;
		case PEN_ACT_CHANGED:
			if (!cmd->accept_change)
				return -ESTALE;
			if (++attention >= ATTENTION_TRIES)
				return -EIO;
			break;
		case PEN_ACT_NO_MEDIUM:
			return -ENOMEDIUM;
		case PEN_ACT_READ_ONLY:
			return -EROFS;
		case PEN_ACT_UNSUPPORTED:
			return -EOPNOTSUPP;
		case PEN_ACT_RANGE:
			return -ERANGE;
		case PEN_ACT_FAIL:
			return -EIO;
		}
		atomic64_inc(&pen->stats.retries);
	}
}

/* A command whose answer lands in lun->small. */
static int pen_scsi_small(struct pen_lun *lun, struct pen_cmd *cmd, u32 len)
{
	struct scatterlist sg;

	memset(lun->small, 0, PEN_SMALL);
	sg_init_one(&sg, lun->small, len);
	cmd->in = true;
	cmd->sg = &sg;
	cmd->nents = 1;
	cmd->len = len;
	cmd->timeout_ms = pen_timeout_ms;
	return pen_scsi_run(lun, cmd);
}

static int pen_inquiry(struct pen_lun *lun, struct pen_inquiry *out)
{
	struct pen_cmd cmd = {
		.judge_residue = true,
		.accept_change = true,
	};
	int ret;

	/* Longer requests hang some sticks. */
	cmd.cdb_len = pen_cdb_inquiry(cmd.cdb, INQUIRY_LEN);
	ret = pen_scsi_small(lun, &cmd, INQUIRY_LEN);
	if (ret)
		return ret;
	return pen_inquiry_decode(lun->small, cmd.actual, out) ? 0 : -EIO;
}

static int pen_test_ready(struct pen_lun *lun, unsigned int ready_ms,
			  bool accept_change)
{
	struct pen_cmd cmd = {
		.accept_change = accept_change,
		.ready_ms = ready_ms,
		.timeout_ms = pen_timeout_ms,
	};

	cmd.cdb_len = pen_cdb_test_unit_ready(cmd.cdb);
	return pen_scsi_run(lun, &cmd);
}

static int pen_capacity(struct pen_lun *lun, struct pen_geometry *out)
{
	struct pen_cmd cmd = {
		.judge_residue = true,
		.accept_change = true,
		.ready_ms = pen_timeout_ms,
	};
	enum pen_capacity cap;
	int ret;

	cmd.cdb_len = pen_cdb_read_capacity10(cmd.cdb);
	ret = pen_scsi_small(lun, &cmd, 8);
	if (ret)
		return ret;
	cap = pen_capacity10_decode(lun->small, cmd.actual, out);
	if (cap == PEN_CAP_NEED_16) {
		cmd.judge_residue = false;
		cmd.cdb_len = pen_cdb_read_capacity16(cmd.cdb, CAPACITY16_LEN);
		ret = pen_scsi_small(lun, &cmd, CAPACITY16_LEN);
		if (ret)
			return ret;
		cap = pen_capacity16_decode(lun->small, cmd.actual, out);
	}
	return cap == PEN_CAP_OK ? 0 : -EINVAL;
}

/* Unknown means writable: many sticks refuse the question. */
static int pen_write_protected(struct pen_lun *lun, bool *protected)
{
	struct pen_cmd cmd = { .accept_change = true };
	int ret;

	*protected = false;
	cmd.cdb_len = pen_cdb_mode_sense6(cmd.cdb, MODE_PAGE_ALL,
					  MODE_SENSE_LEN);
	ret = pen_scsi_small(lun, &cmd, MODE_SENSE_LEN);
	if (ret == -ENODEV)
		return ret;
	if (!ret)
		*protected = pen_mode_sense6_write_protected(lun->small,
							     cmd.actual);
	return 0;
}

/**
 * pen_scsi_identify() - who is it
 * @lun: the unit, not registered yet
 */
int pen_scsi_identify(struct pen_lun *lun)
{
	int ret = pen_inquiry(lun, &lun->inquiry);

	if (!ret)
		lun->removable = lun->inquiry.removable;
	return ret;
}

/**
 * pen_scsi_revalidate() - read everything about the medium anew
 * @lun: the unit
 * @ready_ms: how long to wait until it is ready
 *
 * Takes pen_lun::lock to publish the result. Returns 0 also for an absent
 * medium, which is a state and not an error.
 */
int pen_scsi_revalidate(struct pen_lun *lun, unsigned int ready_ms)
{
	struct pen_geometry geo = { 0 };
	bool protected = false;
	bool present = false;
	int ret;

	ret = pen_test_ready(lun, ready_ms, true);
	if (!ret)
		ret = pen_capacity(lun, &geo);
	if (!ret) {
		present = true;
		ret = pen_write_protected(lun, &protected);
	}
	if (ret == -ENOMEDIUM)
		ret = 0;

	mutex_lock(&lun->lock);
	lun->present = present;
	lun->read_only = protected || pen_force_read_only;
	lun->geo = geo;
	lun->size = geo.blocks * geo.block_size;
	if (present)
		lun->window = pen_window_size(lun->max_sectors,
					      lun->pen->map_limit,
					      geo.block_size);
	mutex_unlock(&lun->lock);
	return ret;
}

/**
 * pen_scsi_ready() - is the medium that we know still there
 * @lun: the unit
 *
 * Returns -ESTALE when it may be another one, -ENOMEDIUM when there is none.
 */
int pen_scsi_ready(struct pen_lun *lun)
{
	return pen_test_ready(lun, pen_timeout_ms, false);
}

/**
 * pen_scsi_same() - after a loss of power: the same stick, the same medium
 * @lun: the unit
 *
 * usbcore compares the descriptors and the serial number before it calls
 * reset_resume; a card reader's card is beyond them.
 */
bool pen_scsi_same(struct pen_lun *lun)
{
	struct pen_inquiry inquiry;
	struct pen_geometry geo;

	if (pen_inquiry(lun, &inquiry) ||
	    memcmp(&inquiry, &lun->inquiry, sizeof(inquiry)))
		return false;
	if (!lun->present)
		return true;
	return !pen_capacity(lun, &geo) &&
	       !memcmp(&geo, &lun->geo, sizeof(geo));
}

/**
 * pen_scsi_rw() - read or write whole blocks
 * @lun: the unit
 * @write: direction
 * @lba: first block
 * @blocks: how many
 * @sg: the bytes
 * @nents: entries of @sg
 */
int pen_scsi_rw(struct pen_lun *lun, bool write, u64 lba, u32 blocks,
		struct scatterlist *sg, int nents)
{
	struct pen_cmd cmd = {
		.in = !write,
		.exact = true,
		.sg = sg,
		.nents = nents,
		.len = blocks * lun->geo.block_size,
		.timeout_ms = pen_timeout_ms,
		.ready_ms = pen_timeout_ms,
	};
	int ret;

	cmd.cdb_len = pen_cdb_rw(cmd.cdb, write, lba, blocks,
				 lun->geo.blocks > 0x100000000ull);
	ret = pen_scsi_run(lun, &cmd);
	if (ret && ret != -ENODEV && ret != -ENOMEDIUM && ret != -ESTALE)
		dev_err_ratelimited(&lun->dev,
				    "%s of %u blocks at %llu failed: %d (sense %x/%02x/%02x)\n",
				    write ? "write" : "read", blocks, lba, ret,
				    cmd.sense.key, cmd.sense.asc,
				    cmd.sense.ascq);
	return ret;
}

/**
 * pen_scsi_sync() - have the stick write its own cache to the flash
 * @lun: the unit
 *
 * Sent even when the stick claims no cache: the page that would tell is one
 * that many sticks choke on. A refusal means that there is nothing to flush.
 */
int pen_scsi_sync(struct pen_lun *lun)
{
	struct pen_cmd cmd = {
		.timeout_ms = pen_flush_timeout_ms,
		.ready_ms = pen_timeout_ms,
	};
	int ret;

	if (lun->no_sync)
		return 0;
	cmd.cdb_len = pen_cdb_sync_cache10(cmd.cdb);
	ret = pen_scsi_run(lun, &cmd);
	if (ret == -EOPNOTSUPP) {
		lun->no_sync = true;
		return 0;
	}
	return ret;
}
