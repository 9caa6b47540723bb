// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of the buffers: their memory, what they hold, and what becomes of
 * it when nobody needs it or the medium goes. pen_cache.c uses them.
 */
#include <linux/slab.h>

#include "pen.h"

void pen_buf_forget(struct pen_buf *buf)
{
	buf->flush = false;
	buf->ahead = false;
	buf->want_first = 0;
	buf->want_end = 0;
	buf->tail_block = -1;
	buf->tail_len = 0;
	bitmap_zero(buf->valid, PEN_MAX_BLOCKS);
	bitmap_zero(buf->dirty, PEN_MAX_BLOCKS);
	bitmap_zero(buf->bad, PEN_MAX_BLOCKS);
}

bool pen_buf_is_dirty(const struct pen_buf *buf)
{
	return buf->tail_block >= 0 ||
	       !bitmap_empty(buf->dirty, PEN_MAX_BLOCKS);
}

static bool pen_buf_is_free(const struct pen_buf *buf)
{
	return !buf->io && !buf->writer && !buf->readers &&
	       !pen_buf_is_dirty(buf);
}

static void pen_buf_free(struct pen_buf *buf)
{
	int i;

	if (!buf)
		return;
	for (i = 0; i < PEN_CHUNKS; i++)
		kfree(buf->chunk[i]);
	kfree(buf);
}

static struct pen_buf *pen_buf_alloc(u32 bytes)
{
	struct pen_buf *buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	int i;

	if (!buf)
		return NULL;
	pen_buf_forget(buf);
	for (i = 0; i < DIV_ROUND_UP(bytes, PEN_CHUNK); i++) {
		/*
		 * Zeroed: no old kernel memory ever reaches a stick. And open()
		 * rather fails than has another program killed for its sake.
		 */
		buf->chunk[i] = kzalloc(PEN_CHUNK, GFP_KERNEL | __GFP_NOWARN |
					__GFP_RETRY_MAYFAIL);
		if (!buf->chunk[i]) {
			pen_buf_free(buf);
			return NULL;
		}
	}
	return buf;
}

/**
 * pen_cache_alloc() - buffers for the first open file
 * @lun: locked
 */
int pen_cache_alloc(struct pen_lun *lun)
{
	u32 bytes = max(4096u, pen_window_size(lun->max_sectors,
					       lun->pen->map_limit, 512));
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		if (lun->buf[i])
			continue;
		lun->buf[i] = pen_buf_alloc(bytes);
		if (!lun->buf[i])
			return -ENOMEM;
	}
	return 0;
}

void pen_cache_free(struct pen_lun *lun)
{
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		pen_buf_free(lun->buf[i]);
		lun->buf[i] = NULL;
	}
}

/**
 * pen_cache_trim() - give the memory back when nobody uses the unit
 * @lun: locked
 *
 * What a killed program left unwritten keeps it until it is written.
 */
void pen_cache_trim(struct pen_lun *lun)
{
	int i;

	if (lun->opens)
		return;
	for (i = 0; i < PEN_BUFS; i++)
		if (lun->buf[i] && !pen_buf_is_free(lun->buf[i]))
			return;
	pen_cache_free(lun);
}

/**
 * pen_cache_dirty() - would pulling the stick now lose bytes
 * @lun: locked
 */
bool pen_cache_dirty(struct pen_lun *lun)
{
	int i;

	for (i = 0; i < PEN_BUFS; i++)
		if (lun->buf[i] && pen_buf_is_dirty(lun->buf[i]))
			return true;
	return lun->unsynced;
}

/**
 * pen_cache_busy() - are there commands that somebody asked for
 * @lun: locked
 */
bool pen_cache_busy(struct pen_lun *lun)
{
	int i;

	if (lun->verify || lun->check_done != lun->check_req ||
	    lun->sync_done != lun->sync_req)
		return true;
	for (i = 0; i < PEN_BUFS; i++) {
		struct pen_buf *buf = lun->buf[i];

		if (buf && (buf->io || buf->flush ||
			    buf->want_first < buf->want_end))
			return true;
	}
	return false;
}

/**
 * pen_cache_stop_ahead() - nobody is there who would read on
 * @lun: locked
 *
 * A command that is under way is left alone.
 */
void pen_cache_stop_ahead(struct pen_lun *lun)
{
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		struct pen_buf *buf = lun->buf[i];

		if (buf && buf->ahead && !buf->io)
			buf->want_end = buf->want_first;
	}
}

/**
 * pen_cache_invalidate() - forget clean contents (BLKFLSBUF)
 * @lun: locked
 */
void pen_cache_invalidate(struct pen_lun *lun)
{
	int i;

	for (i = 0; i < PEN_BUFS; i++)
		if (lun->buf[i] && pen_buf_is_free(lun->buf[i]))
			lun->buf[i]->used = false;
}

/**
 * pen_cache_lose() - the medium is gone: drop everything
 * @lun: locked
 * @error: for those whose bytes are lost
 */
void pen_cache_lose(struct pen_lun *lun, int error)
{
	bool lost = lun->unsynced;
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		struct pen_buf *buf = lun->buf[i];

		if (!buf)
			continue;
		if (pen_buf_is_dirty(buf))
			lost = true;
		pen_buf_forget(buf);
		buf->used = false;
	}
	if (lost) {
		errseq_set(&lun->wb_err, error);
		dev_warn(&lun->dev,
			 "written bytes were lost with the medium\n");
	}
	lun->unsynced = false;
	pen_cache_wake(lun);
}
