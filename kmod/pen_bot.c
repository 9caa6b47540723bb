// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bulk-Only Transport: one command block, its data and its status, and the
 * way back when the stick leaves the road.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "pen.h"

#define BOT_RESET		0xff
#define BOT_GET_MAX_LUN		0xfe
#define CONTROL_TIMEOUT_MS	5000
#define SETTLE_MS		100
/* Errors come in a burst before the hub notices that the stick was pulled. */
#define UNPLUG_MS		200

/**
 * pen_sleep() - wait, but not for a stick that is being pulled
 * @pen: the stick
 * @ms: how long
 *
 * Returns true when the stick is on its way out.
 */
bool pen_sleep(struct pen_dev *pen, unsigned int ms)
{
	wait_event_idle_timeout(pen->wait,
				pen_gone(pen) ||
				test_bit(PEN_STOPPING, &pen->flags),
				msecs_to_jiffies(ms));
	return pen_gone(pen) || test_bit(PEN_STOPPING, &pen->flags);
}

static void pen_urb_complete(struct urb *urb)
{
	struct pen_dev *pen = urb->context;

	WRITE_ONCE(pen->urb_done, true);
	wake_up_all(&pen->wait);
}

/*
 * usb_bulk_msg() caps its wait at 60 s on current stable kernels, less than
 * a flush may take, and cannot send a scatter list: hence an URB of our own.
 * The wait is idle, neither load nor a hung task, and ends without GONE being
 * tested because disconnect kills the URB.
 */
static int pen_submit(struct pen_dev *pen, unsigned int timeout_ms,
		      u32 *actual)
{
	struct urb *urb = pen->urb;
	long left;
	int ret;

	*actual = 0;
	WRITE_ONCE(pen->urb_done, false);
	usb_anchor_urb(urb, &pen->anchor);
	ret = usb_submit_urb(urb, GFP_NOIO);
	if (ret) {
		usb_unanchor_urb(urb);
		return pen_gone(pen) ? -ENODEV : ret;
	}
	left = wait_event_idle_timeout(pen->wait, READ_ONCE(pen->urb_done),
				       msecs_to_jiffies(timeout_ms));
	if (!left)
		usb_kill_urb(urb);
	*actual = urb->actual_length;
	if (pen_gone(pen))
		return -ENODEV;
	ret = urb->status;
	if (!left && ret)
		return -ETIMEDOUT;
	return ret;
}

static int pen_bulk(struct pen_dev *pen, unsigned int pipe, void *buf, u32 len,
		    unsigned int timeout_ms, u32 *actual)
{
	usb_fill_bulk_urb(pen->urb, pen->udev, pipe, buf, len,
			  pen_urb_complete, pen);
	pen->urb->sg = NULL;
	pen->urb->num_sgs = 0;
	return pen_submit(pen, timeout_ms, actual);
}

/*
 * The data phase may be cut into several transfers anywhere at a multiple of
 * the packet size: the stick sees packets only. Controllers without scatter
 * lists get one transfer for each piece.
 */
static int pen_data(struct pen_dev *pen, struct pen_cmd *cmd, u32 *actual)
{
	unsigned int pipe = cmd->in ? pen->in_pipe : pen->out_pipe;
	unsigned int table = pen->udev->bus->sg_tablesize;
	struct scatterlist *sg = cmd->sg;
	int left = cmd->nents;

	*actual = 0;
	while (left) {
		int n = min_t(unsigned int, left, max(table, 1u));
		struct scatterlist *first = sg;
		u32 len = 0, got;
		int ret, i;

		for (i = 0; i < n; i++, sg = sg_next(sg))
			len += sg->length;
		left -= n;
		if (n == 1) {
			ret = pen_bulk(pen, pipe, sg_virt(first), len,
				       cmd->timeout_ms, &got);
		} else {
			usb_fill_bulk_urb(pen->urb, pen->udev, pipe, NULL, len,
					  pen_urb_complete, pen);
			pen->urb->sg = first;
			pen->urb->num_sgs = n;
			ret = pen_submit(pen, cmd->timeout_ms, &got);
		}
		*actual += got;
		if (ret)
			return ret;
		if (got < len)
			break;
	}
	return 0;
}

/* Some firmware dies when asked for the endpoint's status; we do not ask. */
static int pen_clear_halt(struct pen_dev *pen, unsigned int pipe)
{
	atomic64_inc(&pen->stats.stalls);
	return usb_clear_halt(pen->udev, pipe);
}

static int pen_status(struct pen_dev *pen, struct pen_cmd *cmd, u32 *got)
{
	int ret, tries;

	/*
	 * A stalled status phase is cleared and read once more (figure 2 of
	 * the specification); an empty packet is taken for a data phase that
	 * ended with one.
	 */
	for (tries = 0; tries < 2; tries++) {
		ret = pen_bulk(pen, pen->in_pipe, pen->csw, PEN_CSW_LEN,
			       cmd->timeout_ms, got);
		if (ret == -EPIPE) {
			if (pen_clear_halt(pen, pen->in_pipe))
				return -EPROTO;
			continue;
		}
		if (!ret && !*got)
			continue;
		return ret;
	}
	return ret ? ret : -EPROTO;
}

/* The stick answered the data phase with its status: take it as such. */
static bool pen_skipped_data(struct pen_dev *pen, struct pen_cmd *cmd,
			     u32 *actual)
{
	u8 *data;

	if (!cmd->in || !cmd->nents || *actual != PEN_CSW_LEN ||
	    cmd->len == PEN_CSW_LEN)
		return false;
	data = sg_virt(cmd->sg);
	if (!pen_data_is_csw(data, *actual, pen->signature, pen->tag))
		return false;
	memcpy(pen->csw, data, PEN_CSW_LEN);
	memset(data, 0, PEN_CSW_LEN);
	*actual = 0;
	return true;
}

/* One round: 0, PEN_CHECK, -EREMOTEIO (short, in step) or out of step. */
static int pen_transport(struct pen_dev *pen, u8 lun, struct pen_cmd *cmd)
{
	enum pen_csw_verdict verdict;
	u32 actual = 0, got, residue;
	bool babble = false;
	bool status = false;
	int ret;

	cmd->actual = 0;
	pen->tag++;
	pen_cbw_encode(pen->cbw, pen->tag, cmd->len, cmd->in, lun, cmd->cdb,
		       cmd->cdb_len);
	atomic64_inc(&pen->stats.commands);
	ret = pen_bulk(pen, pen->out_pipe, pen->cbw, PEN_CBW_LEN,
		       cmd->timeout_ms, &got);
	if (ret)
		return ret;
	if (got != PEN_CBW_LEN)
		return -EPROTO;

	if (cmd->len) {
		ret = pen_data(pen, cmd, &actual);
		if (ret == -EPIPE) {
			if (pen_clear_halt(pen, cmd->in ? pen->in_pipe :
							  pen->out_pipe))
				return -EPROTO;
		} else if (ret == -EOVERFLOW) {
			babble = true;
		} else if (ret) {
			return ret;
		}
		status = pen_skipped_data(pen, cmd, &actual);
	}

	got = PEN_CSW_LEN;
	if (!status) {
		ret = pen_status(pen, cmd, &got);
		if (ret)
			return ret;
	}
	if (!test_bit(PEN_LEARNED, &pen->flags) &&
	    pen_csw_learn(pen->csw, got, pen->tag, cmd->len, &pen->signature))
		set_bit(PEN_LEARNED, &pen->flags);
	verdict = pen_csw_decode(pen->csw, got, pen->signature, pen->tag,
				 cmd->len, &residue);
	if (verdict != PEN_CSW_GOOD && verdict != PEN_CSW_FAILED) {
		dev_dbg(&pen->intf->dev, "status wrapper refused: %d\n",
			verdict);
		return -EPROTO;
	}
	/* More bytes than were asked for: which of them are ours? */
	if (babble)
		return -EOVERFLOW;

	if (cmd->judge_residue && residue && verdict == PEN_CSW_GOOD &&
	    actual == cmd->len &&
	    !test_and_set_bit(PEN_BOGUS_RESIDUE, &pen->flags))
		dev_dbg(&pen->intf->dev, "residue ignored from now on\n");
	if (test_bit(PEN_BOGUS_RESIDUE, &pen->flags))
		residue = 0;
	cmd->actual = min(actual, cmd->len - residue);
	atomic64_add(cmd->actual, cmd->in ? &pen->stats.bytes_in :
					    &pen->stats.bytes_out);
	if (verdict == PEN_CSW_FAILED)
		return PEN_CHECK;
	if (cmd->exact && cmd->actual != cmd->len)
		return -EREMOTEIO;
	return 0;
}

static int pen_autosense(struct pen_dev *pen, u8 lun, struct pen_cmd *failed)
{
	struct scatterlist sg;
	struct pen_cmd cmd = {
		.in = true,
		.sg = &sg,
		.nents = 1,
		.len = 18,
		.timeout_ms = pen_timeout_ms,
	};
	int ret;

	memset(pen->sense, 0, cmd.len);
	sg_init_one(&sg, pen->sense, cmd.len);
	cmd.cdb_len = pen_cdb_request_sense(cmd.cdb, cmd.len);
	ret = pen_transport(pen, lun, &cmd);
	if (ret < 0 && ret != -EREMOTEIO)
		return ret;
	pen_sense_decode(pen->sense, ret ? 0 : cmd.actual, &failed->sense);
	return PEN_CHECK;
}

/* Reset Recovery of section 5.3.4: class request, then both halts. */
static int pen_reset_recovery(struct pen_dev *pen)
{
	int ret;

	ret = usb_control_msg(pen->udev, usb_sndctrlpipe(pen->udev, 0),
			      BOT_RESET,
			      USB_TYPE_CLASS | USB_RECIP_INTERFACE, 0,
			      pen->ifnum, NULL, 0, CONTROL_TIMEOUT_MS);
	if (ret < 0)
		return ret;
	if (pen_sleep(pen, SETTLE_MS) && pen_gone(pen))
		return -ENODEV;
	ret = usb_clear_halt(pen->udev, pen->in_pipe);
	if (ret)
		return ret;
	return usb_clear_halt(pen->udev, pen->out_pipe);
}

/*
 * Answers a failed transfer; true when only a port reset is left. Where memory
 * was short that is no answer: usbcore needs memory for it as well, and removes
 * the stick when there is none.
 */
static bool pen_recover(struct pen_dev *pen, int error, unsigned int attempt)
{
	int ret;

	if (attempt && error != -ENOMEM)
		return true;
	ret = pen_reset_recovery(pen);
	return ret && ret != -ENOMEM && error != -ENOMEM;
}

/* Without pen_dev::io: pre_reset takes it. */
static void pen_port_reset(struct pen_dev *pen)
{
	int ret;

	if (pen_gone(pen))
		return;
	ret = usb_lock_device_for_reset(pen->udev, pen->intf);
	if (ret)
		return;
	if (!pen_gone(pen)) {
		ret = usb_reset_device(pen->udev);
		if (ret)
			dev_dbg(&pen->intf->dev, "port reset: %d\n", ret);
	}
	usb_unlock_device(pen->udev);
}

/**
 * pen_bot_run() - run one command once, leaving the transport in step
 * @pen: the stick
 * @lun: logical unit
 * @cmd: the command; actual and sense are filled in
 * @attempt: 0 for the first try; decides how hard a failure is answered
 *
 * Returns 0, PEN_CHECK with the sense decoded, -ENODEV, or the error of a
 * transport that has been recovered as far as it can be.
 */
int pen_bot_run(struct pen_dev *pen, u8 lun, struct pen_cmd *cmd,
		unsigned int attempt)
{
	unsigned int noio = memalloc_noio_save();
	bool port_reset = false;
	int ret;

	mutex_lock(&pen->io);
	memset(&cmd->sense, 0, sizeof(cmd->sense));
	ret = pen_gone(pen) ? -ENODEV : pen_transport(pen, lun, cmd);
	if (ret == PEN_CHECK)
		ret = pen_autosense(pen, lun, cmd);
	if (ret < 0 && ret != -EREMOTEIO && ret != -ENODEV) {
		if (ret != -ETIMEDOUT)
			wait_event_idle_timeout(pen->wait, pen_gone(pen),
						msecs_to_jiffies(UNPLUG_MS));
		if (pen_gone(pen)) {
			ret = -ENODEV;
		} else {
			atomic64_inc(&pen->stats.resets);
			dev_dbg(&pen->intf->dev,
				"command %#04x out of step (%d), recovery\n",
				cmd->cdb[0], ret);
			port_reset = pen_recover(pen, ret, attempt);
		}
	}
	mutex_unlock(&pen->io);
	if (port_reset)
		pen_port_reset(pen);
	memalloc_noio_restore(noio);
	return ret;
}

/**
 * pen_bot_max_lun() - number of the last logical unit
 * @pen: the stick
 *
 * Many sticks stall the request, and some answer nonsense: then it is 0.
 */
unsigned int pen_bot_max_lun(struct pen_dev *pen)
{
	int ret;

	*pen->sense = 0;
	ret = usb_control_msg(pen->udev, usb_rcvctrlpipe(pen->udev, 0),
			      BOT_GET_MAX_LUN,
			      USB_DIR_IN | USB_TYPE_CLASS | USB_RECIP_INTERFACE,
			      0, pen->ifnum, pen->sense, 1,
			      2 * CONTROL_TIMEOUT_MS);
	if (ret != 1 || *pen->sense >= PEN_MAX_LUNS)
		return 0;
	return *pen->sense;
}
