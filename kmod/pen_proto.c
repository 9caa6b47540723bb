// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bulk-Only wrappers, SCSI command blocks, sense data and sector arithmetic.
 * See pen_proto.h: no call into the kernel, compiled on the host as well.
 */
#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/string.h>
#else
#include <string.h>
#define fallthrough __attribute__((__fallthrough__))
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#endif
#include "pen_proto.h"

#define CBW_SIGNATURE	0x43425355u

static void put_le32(u8 *p, u32 v)
{
	p[0] = v;
	p[1] = v >> 8;
	p[2] = v >> 16;
	p[3] = v >> 24;
}

static u32 get_le32(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static void put_be32(u8 *p, u32 v)
{
	p[0] = v >> 24;
	p[1] = v >> 16;
	p[2] = v >> 8;
	p[3] = v;
}

static u32 get_be32(const u8 *p)
{
	return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

static u64 get_be64(const u8 *p)
{
	return (u64)get_be32(p) << 32 | get_be32(p + 4);
}

/*
 * Quotient and remainder without the 64-bit division that 32-bit kernels
 * lack. Plain long division; it runs once per window, not per byte.
 */
static u64 div_u64_rem32(u64 value, u32 divisor, u32 *rem)
{
	u64 quotient = 0;
	u64 r = 0;
	int bit;

	for (bit = 63; bit >= 0; bit--) {
		r = r << 1 | (value >> bit & 1);
		if (r >= divisor) {
			r -= divisor;
			quotient |= 1ull << bit;
		}
	}
	*rem = r;
	return quotient;
}

/**
 * pen_cbw_encode() - build a command block wrapper
 * @out: PEN_CBW_LEN bytes
 * @tag: echoed by the status wrapper
 * @len: bytes of the data phase
 * @in: the data phase goes to the host
 * @lun: logical unit, 0 to 15
 * @cdb: the SCSI command
 * @cdb_len: 1 to PEN_CDB_MAX
 */
void pen_cbw_encode(u8 *out, u32 tag, u32 len, bool in, u8 lun,
		    const u8 *cdb, u8 cdb_len)
{
	memset(out, 0, PEN_CBW_LEN);
	put_le32(out, CBW_SIGNATURE);
	put_le32(out + 4, tag);
	put_le32(out + 8, len);
	out[12] = in ? 0x80 : 0;
	out[13] = lun & 0x0f;
	if (cdb_len > PEN_CDB_MAX)
		cdb_len = PEN_CDB_MAX;
	out[14] = cdb_len;
	memcpy(out + 15, cdb, cdb_len);
}

/**
 * pen_csw_decode() - judge a command status wrapper
 * @buf: what arrived
 * @got: how much of it
 * @signature: PEN_CSW_SIGNATURE, or the one this stick was seen to use
 * @tag: of the command
 * @len: bytes asked for in the data phase
 * @residue: bytes the stick says it did not process; 0 unless good or failed
 *
 * Section 6.3 calls a wrapper valid by length, signature and tag, meaningful
 * by status and residue; both are demanded.
 */
enum pen_csw_verdict pen_csw_decode(const u8 *buf, size_t got, u32 signature,
				    u32 tag, u32 len, u32 *residue)
{
	u32 rest;

	*residue = 0;
	if (got != PEN_CSW_LEN)
		return PEN_CSW_BAD_LENGTH;
	if (get_le32(buf) != signature)
		return PEN_CSW_BAD_SIGNATURE;
	if (get_le32(buf + 4) != tag)
		return PEN_CSW_BAD_TAG;
	if (buf[12] == 2)
		return PEN_CSW_PHASE;
	if (buf[12] > 2)
		return PEN_CSW_BAD_STATUS;
	rest = get_le32(buf + 8);
	if (rest > len)
		return PEN_CSW_BAD_RESIDUE;
	*residue = rest;
	return buf[12] ? PEN_CSW_FAILED : PEN_CSW_GOOD;
}

/**
 * pen_csw_learn() - accept a foreign signature on a first, otherwise good CSW
 * @buf: what arrived
 * @got: how much of it
 * @tag: of the command
 * @len: bytes asked for in the data phase
 * @signature: replaced when the wrapper is good in every other respect
 *
 * Some sticks always answer with a signature of their own. Only asked for
 * the first command after plugging in.
 */
bool pen_csw_learn(const u8 *buf, size_t got, u32 tag, u32 len, u32 *signature)
{
	u32 seen, residue;
	enum pen_csw_verdict verdict;

	if (got != PEN_CSW_LEN)
		return false;
	seen = get_le32(buf);
	verdict = pen_csw_decode(buf, got, seen, tag, len, &residue);
	if (verdict != PEN_CSW_GOOD && verdict != PEN_CSW_FAILED)
		return false;
	*signature = seen;
	return true;
}

/**
 * pen_data_is_csw() - the stick skipped the data phase
 * @buf: the start of the data buffer
 * @got: bytes that arrived
 * @signature: expected in a CSW
 * @tag: of the command
 */
bool pen_data_is_csw(const u8 *buf, size_t got, u32 signature, u32 tag)
{
	return got == PEN_CSW_LEN && get_le32(buf) == signature &&
	       get_le32(buf + 4) == tag && buf[12] <= 2;
}

static u8 cdb_start(u8 *cdb, u8 opcode, u8 len)
{
	memset(cdb, 0, PEN_CDB_MAX);
	cdb[0] = opcode;
	return len;
}

u8 pen_cdb_test_unit_ready(u8 *cdb)
{
	return cdb_start(cdb, 0x00, 6);
}

u8 pen_cdb_request_sense(u8 *cdb, u8 len)
{
	cdb_start(cdb, 0x03, 6);
	cdb[4] = len;
	return 6;
}

u8 pen_cdb_inquiry(u8 *cdb, u8 len)
{
	cdb_start(cdb, 0x12, 6);
	cdb[4] = len;
	return 6;
}

u8 pen_cdb_mode_sense6(u8 *cdb, u8 page, u8 len)
{
	cdb_start(cdb, 0x1a, 6);
	cdb[2] = page & 0x3f;
	cdb[4] = len;
	return 6;
}

u8 pen_cdb_start_unit(u8 *cdb)
{
	cdb_start(cdb, 0x1b, 6);
	cdb[4] = 1;
	return 6;
}

u8 pen_cdb_prevent_removal(u8 *cdb, bool prevent)
{
	cdb_start(cdb, 0x1e, 6);
	cdb[4] = prevent;
	return 6;
}

u8 pen_cdb_read_capacity10(u8 *cdb)
{
	return cdb_start(cdb, 0x25, 10);
}

u8 pen_cdb_read_capacity16(u8 *cdb, u32 len)
{
	cdb_start(cdb, 0x9e, 16);
	cdb[1] = 0x10;
	put_be32(cdb + 10, len);
	return 16;
}

u8 pen_cdb_sync_cache10(u8 *cdb)
{
	/* Address 0 and count 0 mean the whole medium. */
	return cdb_start(cdb, 0x35, 10);
}

/**
 * pen_cdb_rw() - READ or WRITE, 10 or 16 bytes
 * @cdb: filled in
 * @write: direction
 * @lba: first block
 * @blocks: how many; more than 65535 forces the 16-byte form
 * @force16: the medium is larger than 10 bytes can address
 */
u8 pen_cdb_rw(u8 *cdb, bool write, u64 lba, u32 blocks, bool force16)
{
	if (force16 || blocks > 0xffff || lba + blocks - 1 > 0xffffffffull) {
		cdb_start(cdb, write ? 0x8a : 0x88, 16);
		put_be32(cdb + 2, lba >> 32);
		put_be32(cdb + 6, (u32)lba);
		put_be32(cdb + 10, blocks);
		return 16;
	}
	cdb_start(cdb, write ? 0x2a : 0x28, 10);
	put_be32(cdb + 2, (u32)lba);
	cdb[7] = blocks >> 8;
	cdb[8] = blocks;
	return 10;
}

/**
 * pen_sense_decode() - fixed or descriptor sense data
 * @buf: what arrived
 * @got: how much of it
 * @out: filled in; not valid when the format is unknown or too short
 */
void pen_sense_decode(const u8 *buf, size_t got, struct pen_sense *out)
{
	memset(out, 0, sizeof(*out));
	if (got < 3)
		return;
	switch (buf[0] & 0x7f) {
	case 0x71:
		out->deferred = true;
		fallthrough;
	case 0x70:
		out->key = buf[2] & 0x0f;
		/*
		 * The additional length says how far the stick filled its
		 * answer; some leave it 0 and fill the bytes all the same.
		 */
		if (got >= 13)
			out->asc = buf[12];
		if (got >= 14)
			out->ascq = buf[13];
		out->valid = true;
		return;
	case 0x73:
		out->deferred = true;
		fallthrough;
	case 0x72:
		out->key = buf[1] & 0x0f;
		out->asc = buf[2];
		if (got >= 4)
			out->ascq = buf[3];
		out->valid = true;
		return;
	default:
		return;
	}
}

struct sense_rule {
	u8 key;
	u8 asc;
	u8 ascq;
	u8 action;
};

#define ANY 0xff

/* First match decides; the last line of each key is its default. */
static const struct sense_rule sense_rules[] = {
	{ 0x0, ANY, ANY, PEN_ACT_FAIL },	/* failed, yet nothing to say */
	{ 0x1, ANY, ANY, PEN_ACT_DONE },
	{ 0x2, 0x3a, ANY, PEN_ACT_NO_MEDIUM },
	{ 0x2, 0x04, 0x02, PEN_ACT_START },
	{ 0x2, 0x04, 0x03, PEN_ACT_FAIL },	/* manual intervention */
	{ 0x2, 0x04, 0x0b, PEN_ACT_FAIL },	/* standby */
	{ 0x2, 0x04, 0x0c, PEN_ACT_FAIL },	/* unavailable */
	{ 0x2, 0x04, 0x1b, PEN_ACT_FAIL },	/* sanitize */
	{ 0x2, 0x04, 0x24, PEN_ACT_FAIL },	/* depopulation */
	{ 0x2, 0x04, 0x25, PEN_ACT_FAIL },	/* depopulation restore */
	{ 0x2, 0x04, ANY, PEN_ACT_WAIT },
	{ 0x2, 0x28, ANY, PEN_ACT_CHANGED },
	{ 0x2, ANY, ANY, PEN_ACT_WAIT },
	{ 0x3, 0x11, ANY, PEN_ACT_FAIL },	/* unrecovered read error */
	{ 0x3, 0x13, ANY, PEN_ACT_FAIL },	/* address mark not found */
	{ 0x3, 0x14, ANY, PEN_ACT_FAIL },	/* record not found */
	{ 0x3, ANY, ANY, PEN_ACT_RETRY },
	{ 0x4, ANY, ANY, PEN_ACT_RETRY },	/* usb bridges say it too early */
	{ 0x5, 0x20, ANY, PEN_ACT_UNSUPPORTED },
	{ 0x5, 0x24, ANY, PEN_ACT_UNSUPPORTED },
	{ 0x5, 0x21, ANY, PEN_ACT_RANGE },
	/* Also QEMU's sense on units above 0 for a unit attention. */
	{ 0x5, 0x25, ANY, PEN_ACT_RETRY },
	{ 0x5, ANY, ANY, PEN_ACT_UNSUPPORTED },
	{ 0x6, 0x28, ANY, PEN_ACT_CHANGED },
	{ 0x6, 0x2a, 0x09, PEN_ACT_CHANGED },	/* capacity changed */
	{ 0x6, 0x3a, ANY, PEN_ACT_CHANGED },	/* ejected or loaded since */
	{ 0x6, ANY, ANY, PEN_ACT_RETRY_RESET },
	{ 0x7, 0x27, 0x07, PEN_ACT_RANGE },	/* space allocation failed */
	{ 0x7, ANY, ANY, PEN_ACT_READ_ONLY },
	{ 0x8, ANY, ANY, PEN_ACT_FAIL },	/* blank check */
	{ 0xb, ANY, ANY, PEN_ACT_RETRY },
	{ 0xd, ANY, ANY, PEN_ACT_RANGE },	/* volume overflow */
};

/**
 * pen_sense_action() - what to do about a failed command
 * @sense: from pen_sense_decode()
 */
enum pen_action pen_sense_action(const struct pen_sense *sense)
{
	size_t i;

	if (!sense->valid)
		return PEN_ACT_FAIL;
	/* It speaks of an earlier command: this one was not run. */
	if (sense->deferred)
		return PEN_ACT_RETRY;
	for (i = 0; i < ARRAY_SIZE(sense_rules); i++) {
		const struct sense_rule *rule = &sense_rules[i];

		if (rule->key != sense->key)
			continue;
		if (rule->asc != ANY && rule->asc != sense->asc)
			continue;
		if (rule->ascq != ANY && rule->ascq != sense->ascq)
			continue;
		return rule->action;
	}
	return PEN_ACT_FAIL;
}

/* Printable ASCII without the padding; these end in sysfs and in the log. */
static void copy_text(char *out, const u8 *in, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? (char)in[i] : ' ';
	while (len && out[len - 1] == ' ')
		len--;
	out[len] = '\0';
}

/**
 * pen_inquiry_decode() - standard INQUIRY data
 * @buf: what arrived
 * @got: how much of it; fewer than 36 bytes leave the strings shorter
 * @out: filled in
 */
bool pen_inquiry_decode(const u8 *buf, size_t got, struct pen_inquiry *out)
{
	u8 full[36] = { 0 };

	memset(out, 0, sizeof(*out));
	if (got < 5)
		return false;
	if (got > sizeof(full))
		got = sizeof(full);
	memcpy(full, buf, got);
	out->device_type = full[0] & 0x1f;
	out->qualifier = full[0] >> 5;
	out->removable = full[1] & 0x80;
	copy_text(out->vendor, full + 8, 8);
	copy_text(out->model, full + 16, 16);
	copy_text(out->rev, full + 32, 4);
	return true;
}

static enum pen_capacity geometry(u64 last, u32 block_size,
				  struct pen_geometry *out)
{
	/* 512 to 4096, a power of two; file offsets are signed 64 bits. */
	if (block_size < 512 || block_size > 4096 ||
	    (block_size & (block_size - 1)))
		return PEN_CAP_BAD;
	if (last >= 0x7fffffffffffffffull / block_size)
		return PEN_CAP_BAD;
	out->blocks = last + 1;
	out->block_size = block_size;
	out->physical_size = block_size;
	return PEN_CAP_OK;
}

/**
 * pen_capacity10_decode() - answer of READ CAPACITY(10)
 * @buf: what arrived
 * @got: how much of it
 * @out: filled in when the answer is usable
 */
enum pen_capacity pen_capacity10_decode(const u8 *buf, size_t got,
					struct pen_geometry *out)
{
	u32 last;

	memset(out, 0, sizeof(*out));
	if (got < 8)
		return PEN_CAP_BAD;
	last = get_be32(buf);
	if (last == 0xffffffffu)
		return PEN_CAP_NEED_16;
	return geometry(last, get_be32(buf + 4), out);
}

/**
 * pen_capacity16_decode() - answer of READ CAPACITY(16)
 * @buf: what arrived
 * @got: how much of it
 * @out: filled in when the answer is usable
 */
enum pen_capacity pen_capacity16_decode(const u8 *buf, size_t got,
					struct pen_geometry *out)
{
	enum pen_capacity ret;

	memset(out, 0, sizeof(*out));
	if (got < 12)
		return PEN_CAP_BAD;
	ret = geometry(get_be64(buf), get_be32(buf + 8), out);
	if (ret == PEN_CAP_OK && got >= 14) {
		u32 physical = out->block_size << (buf[13] & 0x0f);

		/* A hint for tools only; nonsense is dropped. */
		if ((buf[13] & 0x0f) <= 8)
			out->physical_size = physical;
	}
	return ret;
}

/**
 * pen_mode_sense6_write_protected() - the WP bit of the mode header
 * @buf: what arrived
 * @got: how much of it; a stick that says too little is writable
 */
bool pen_mode_sense6_write_protected(const u8 *buf, size_t got)
{
	return got >= 4 && (buf[2] & 0x80);
}

/**
 * pen_span() - cut a byte request at the end of its first window
 * @pos: first byte
 * @len: bytes, may reach beyond the end
 * @size: bytes of the medium
 * @window: bytes of a window, a multiple of @block_size
 * @block_size: bytes of a block
 * @out: filled in
 *
 * Returns false when nothing of the request lies on the medium.
 */
bool pen_span(u64 pos, u64 len, u64 size, u32 window, u32 block_size,
	      struct pen_span *out)
{
	u32 end, rest;

	memset(out, 0, sizeof(*out));
	if (!len || pos >= size || !window || !block_size)
		return false;
	if (len > size - pos)
		len = size - pos;
	out->window = div_u64_rem32(pos, window, &out->offset);
	rest = window - out->offset;
	out->len = len < rest ? (u32)len : rest;
	end = out->offset + out->len;
	out->first = out->offset / block_size;
	out->last = (end - 1) / block_size;
	out->head_partial = out->offset % block_size ||
			    end < (out->first + 1) * block_size;
	out->tail_partial = end % block_size ||
			    (out->last == out->first && out->head_partial);
	return true;
}

/**
 * pen_window_blocks() - blocks of the medium that lie in a window
 * @index: number of the window
 * @blocks: blocks of the medium
 * @window: bytes of a window
 * @block_size: bytes of a block
 */
u32 pen_window_blocks(u64 index, u64 blocks, u32 window, u32 block_size)
{
	u32 per = window / block_size;
	u64 left;
	u32 rem;

	if (!per || index > div_u64_rem32(blocks, per, &rem))
		return 0;
	left = blocks - index * per;
	return left < per ? (u32)left : per;
}

/**
 * pen_run_limit() - how many of the blocks one command may take
 * @lba: first block
 * @count: blocks wanted, at least 1
 * @blocks: blocks of the medium
 * @max_blocks: the largest transfer
 *
 * Card readers exist that fail multi-block accesses touching the end.
 */
u32 pen_run_limit(u64 lba, u32 count, u64 blocks, u32 max_blocks)
{
	u64 tail = blocks > PEN_TAIL_BLOCKS ? blocks - PEN_TAIL_BLOCKS : 0;

	if (lba >= tail)
		return 1;
	if (max_blocks && count > max_blocks)
		count = max_blocks;
	if (count > tail - lba)
		count = tail - lba;
	return count;
}

/**
 * pen_window_size() - bytes of a window
 * @max_sectors: wanted, in units of 512 bytes
 * @limit: what the host controller can map at once, in bytes
 * @block_size: the result is a multiple of it, and at least one
 */
u32 pen_window_size(u32 max_sectors, u32 limit, u32 block_size)
{
	u64 bytes = (u64)max_sectors * 512;

	if (bytes > limit)
		bytes = limit;
	if (bytes > 1u << 20)
		bytes = 1u << 20;
	bytes -= bytes & (block_size - 1);
	return bytes < block_size ? block_size : (u32)bytes;
}
