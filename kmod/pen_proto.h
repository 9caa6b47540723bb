/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What travels on the wire, and the arithmetic of sectors.
 *
 * Nothing here calls the kernel, allocates or keeps state, so the same file
 * is compiled on the host, where it is checked against an independent model.
 * Everything a stick sends is untrusted: each decoder takes the number of
 * bytes that really arrived and believes nothing beyond it.
 */
#ifndef PEN_PROTO_H
#define PEN_PROTO_H

#include <linux/types.h>

#ifndef __KERNEL__
#include <stdbool.h>
#include <stddef.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
#endif

/* Bulk-Only Transport 1.0, sections 5.1 and 5.2. */
#define PEN_CBW_LEN		31
#define PEN_CSW_LEN		13
#define PEN_CSW_SIGNATURE	0x53425355u
#define PEN_CDB_MAX		16

enum pen_csw_verdict {
	PEN_CSW_GOOD,
	PEN_CSW_FAILED,		/* ask REQUEST SENSE */
	PEN_CSW_PHASE,		/* reset recovery demanded by 6.7 */
	PEN_CSW_BAD_LENGTH,
	PEN_CSW_BAD_SIGNATURE,
	PEN_CSW_BAD_TAG,
	PEN_CSW_BAD_STATUS,
	PEN_CSW_BAD_RESIDUE,
};

void pen_cbw_encode(u8 *out, u32 tag, u32 len, bool in, u8 lun,
		    const u8 *cdb, u8 cdb_len);
enum pen_csw_verdict pen_csw_decode(const u8 *buf, size_t got, u32 signature,
				    u32 tag, u32 len, u32 *residue);
bool pen_csw_learn(const u8 *buf, size_t got, u32 tag, u32 len,
		   u32 *signature);
bool pen_data_is_csw(const u8 *buf, size_t got, u32 signature, u32 tag);

/* Each builder zeroes all PEN_CDB_MAX bytes and returns the CDB's length. */
u8 pen_cdb_test_unit_ready(u8 *cdb);
u8 pen_cdb_request_sense(u8 *cdb, u8 len);
u8 pen_cdb_inquiry(u8 *cdb, u8 len);
u8 pen_cdb_mode_sense6(u8 *cdb, u8 page, u8 len);
u8 pen_cdb_start_unit(u8 *cdb);
u8 pen_cdb_prevent_removal(u8 *cdb, bool prevent);
u8 pen_cdb_read_capacity10(u8 *cdb);
u8 pen_cdb_read_capacity16(u8 *cdb, u32 len);
u8 pen_cdb_sync_cache10(u8 *cdb);
u8 pen_cdb_rw(u8 *cdb, bool write, u64 lba, u32 blocks, bool force16);

struct pen_sense {
	bool valid;		/* a known format with a sense key */
	bool deferred;		/* speaks of an earlier command */
	u8 key;
	u8 asc;
	u8 ascq;
};

/* What the driver does about a CHECK CONDITION. */
enum pen_action {
	PEN_ACT_DONE,		/* recovered error: the data is good */
	PEN_ACT_RETRY,		/* same command again, counted */
	PEN_ACT_RETRY_RESET,	/* unit attention after a reset: free retry */
	PEN_ACT_WAIT,		/* becoming ready: poll */
	PEN_ACT_START,		/* START STOP UNIT, then poll */
	PEN_ACT_CHANGED,	/* the medium may be another one */
	PEN_ACT_NO_MEDIUM,
	PEN_ACT_READ_ONLY,
	PEN_ACT_UNSUPPORTED,	/* command or field unknown to the stick */
	PEN_ACT_RANGE,		/* address beyond the stick's real end */
	PEN_ACT_FAIL,
};

void pen_sense_decode(const u8 *buf, size_t got, struct pen_sense *out);
enum pen_action pen_sense_action(const struct pen_sense *sense);

struct pen_inquiry {
	u8 device_type;
	u8 qualifier;
	bool removable;
	char vendor[9];
	char model[17];
	char rev[5];
};

bool pen_inquiry_decode(const u8 *buf, size_t got, struct pen_inquiry *out);

struct pen_geometry {
	u64 blocks;
	u32 block_size;
	u32 physical_size;
};

enum pen_capacity {
	PEN_CAP_OK,
	PEN_CAP_NEED_16,	/* the 10-byte answer is saturated */
	PEN_CAP_BAD,
};

enum pen_capacity pen_capacity10_decode(const u8 *buf, size_t got,
					struct pen_geometry *out);
enum pen_capacity pen_capacity16_decode(const u8 *buf, size_t got,
					struct pen_geometry *out);
bool pen_mode_sense6_write_protected(const u8 *buf, size_t got);

/* Blocks at the very end that are only ever touched one at a time. */
#define PEN_TAIL_BLOCKS		8

/* The part of a byte request that lies in its first window. */
struct pen_span {
	u64 window;		/* number of the window */
	u32 offset;		/* first byte, within the window */
	u32 len;		/* bytes of the request in this window */
	u32 first;		/* first block touched, within the window */
	u32 last;		/* last block touched, within the window */
	bool head_partial;	/* the first block is not covered entirely */
	bool tail_partial;	/* the last block is not covered entirely */
};

bool pen_span(u64 pos, u64 len, u64 size, u32 window, u32 block_size,
	      struct pen_span *out);
u32 pen_window_blocks(u64 index, u64 blocks, u32 window, u32 block_size);
u32 pen_run_limit(u64 lba, u32 count, u64 blocks, u32 max_blocks);
u32 pen_window_size(u32 max_sectors, u32 limit, u32 block_size);

#endif
