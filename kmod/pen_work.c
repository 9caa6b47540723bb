// SPDX-License-Identifier: GPL-2.0-only
/*
 * The work item of a unit: the only one that sends commands to it once the
 * scan is over. It takes pen_lun::lock between commands and not during one.
 */
#include <linux/slab.h>

#include "pen.h"

/**
 * pen_lun_kick() - there is something to do
 * @lun: locked
 */
void pen_lun_kick(struct pen_lun *lun)
{
	if (!lun->dead)
		queue_work(pen_wq, &lun->work);
}

/**
 * pen_lun_medium_lost() - the medium may be another one from now on
 * @lun: locked
 * @error: for those whose bytes are lost
 *
 * Files opened before it fail from now on; none of their bytes goes to what
 * is in the slot next.
 */
void pen_lun_medium_lost(struct pen_lun *lun, int error)
{
	lun->gen++;
	lun->present = false;
	pen_cache_lose(lun, error);
}

/* Errors of pen_scsi.c as programs know them. */
static int pen_errno(int error, bool write)
{
	switch (error) {
	case -ENODEV:
	case -ENOMEDIUM:
	case -EROFS:
		return error;
	case -ERANGE:
		return write ? -ENOSPC : -EIO;
	default:
		return -EIO;
	}
}

static int pen_buf_sg(struct pen_buf *buf, u32 offset, u32 len)
{
	int n = 0;

	sg_init_table(buf->sg, PEN_CHUNKS);
	while (len) {
		u32 in = offset % PEN_CHUNK;
		u32 piece = min(len, PEN_CHUNK - in);

		sg_set_buf(&buf->sg[n++],
			   (u8 *)buf->chunk[offset / PEN_CHUNK] + in, piece);
		offset += piece;
		len -= piece;
	}
	sg_mark_end(&buf->sg[n - 1]);
	return n;
}

static u64 pen_buf_lba(struct pen_lun *lun, struct pen_buf *buf, u32 block)
{
	return buf->index * (lun->window / lun->geo.block_size) + block;
}

/*
 * One command for blocks of a buffer that has its io flag set. Drops the
 * lock meanwhile. -ESTALE: the medium changed, the buffer is empty now.
 */
static int pen_buf_rw(struct pen_lun *lun, struct pen_buf *buf, bool write,
		      u32 first, u32 n)
{
	u32 bs = lun->geo.block_size;
	u64 lba = pen_buf_lba(lun, buf, first);
	int nents = pen_buf_sg(buf, first * bs, n * bs);
	int ret;

	mutex_unlock(&lun->lock);
	ret = pen_scsi_rw(lun, write, lba, n, buf->sg, nents);
	mutex_lock(&lun->lock);
	if (ret == -ESTALE || ret == -ENOMEDIUM)
		pen_lun_medium_lost(lun, ret == -ESTALE ? -EIO : ret);
	else if (ret == -EROFS)
		lun->read_only = true;
	return ret;
}

/* Fetches the rest of the begun block, behind what was written of it. */
static int pen_buf_complete_tail(struct pen_lun *lun, struct pen_buf *buf)
{
	u32 bs = lun->geo.block_size;
	u32 block = buf->tail_block;
	u32 offset = block * bs;
	struct scatterlist sg;
	int ret;

	sg_init_one(&sg, lun->bounce, bs);
	mutex_unlock(&lun->lock);
	ret = pen_scsi_rw(lun, false, pen_buf_lba(lun, buf, block), 1, &sg, 1);
	mutex_lock(&lun->lock);
	if (ret == -ESTALE || ret == -ENOMEDIUM)
		pen_lun_medium_lost(lun, ret == -ESTALE ? -EIO : ret);
	if (ret)
		return ret;
	memcpy((u8 *)buf->chunk[offset / PEN_CHUNK] + offset % PEN_CHUNK +
	       buf->tail_len, lun->bounce + buf->tail_len, bs - buf->tail_len);
	buf->tail_block = -1;
	set_bit(block, buf->valid);
	set_bit(block, buf->dirty);
	return 0;
}

/* Half of it may be readable: only where the stick itself said so. */
static bool pen_worth_splitting(int error)
{
	return error == -EIO || error == -ERANGE;
}

static void pen_buf_fill(struct pen_lun *lun, struct pen_buf *buf)
{
	u32 limit = PEN_MAX_BLOCKS;
	int ret;

	while (buf->want_first < buf->want_end) {
		u32 end = min(buf->want_end, buf->blocks);
		u32 first = find_next_zero_bit(buf->valid, end,
					       buf->want_first);
		u32 n;

		if (first >= end)
			break;
		if ((int)first == buf->tail_block) {
			ret = pen_buf_complete_tail(lun, buf);
			n = 1;
		} else {
			n = find_next_bit(buf->valid, end, first) - first;
			if (buf->tail_block > (int)first)
				n = min(n, buf->tail_block - first);
			n = pen_run_limit(pen_buf_lba(lun, buf, first), n,
					  lun->geo.blocks, limit);
			ret = pen_buf_rw(lun, buf, false, first, n);
			if (!ret) {
				bitmap_set(buf->valid, first, n);
				bitmap_clear(buf->bad, first, n);
			}
		}
		if (!ret) {
			pen_cache_wake(lun);
			continue;
		}
		if (n > 1 && pen_worth_splitting(ret)) {
			limit = n / 2;
			continue;
		}
		if (ret != -ESTALE && ret != -ENOMEDIUM) {
			buf->error = pen_errno(ret, false);
			set_bit(first, buf->bad);
		}
		break;
	}
	buf->want_first = 0;
	buf->want_end = 0;
	buf->ahead = false;
}

/*
 * Writes back what is dirty. A run that fails is lost, as with any other
 * write-back: the error is kept for the writers, and the blocks are read
 * from the stick again when somebody asks.
 */
static void pen_buf_flush(struct pen_lun *lun, struct pen_buf *buf)
{
	int ret;

	if (buf->tail_block >= 0) {
		ret = pen_buf_complete_tail(lun, buf);
		if (ret && buf->tail_block >= 0) {
			buf->tail_block = -1;
			errseq_set(&lun->wb_err, pen_errno(ret, false));
		}
	}
	while (buf->flush) {
		u32 first = find_first_bit(buf->dirty, buf->blocks);
		u32 n;

		if (first >= buf->blocks)
			break;
		n = find_next_zero_bit(buf->dirty, buf->blocks, first) - first;
		n = pen_run_limit(pen_buf_lba(lun, buf, first), n,
				  lun->geo.blocks, PEN_MAX_BLOCKS);
		ret = pen_buf_rw(lun, buf, true, first, n);
		if (ret == -ESTALE || ret == -ENOMEDIUM)
			break;
		bitmap_clear(buf->dirty, first, n);
		if (!ret) {
			lun->unsynced = true;
		} else {
			bitmap_clear(buf->valid, first, n);
			errseq_set(&lun->wb_err, pen_errno(ret, true));
		}
	}
	buf->flush = false;
}

static void pen_lun_sync(struct pen_lun *lun)
{
	u64 request = lun->sync_req;
	int ret;

	/* What is written from now on wants a flush of its own. */
	lun->unsynced = false;
	mutex_unlock(&lun->lock);
	ret = pen_scsi_sync(lun);
	mutex_lock(&lun->lock);
	if (ret == -ESTALE || ret == -ENOMEDIUM) {
		lun->unsynced = true;
		pen_lun_medium_lost(lun, ret == -ESTALE ? -EIO : ret);
	} else if (ret) {
		errseq_set(&lun->wb_err, pen_errno(ret, true));
	}
	lun->sync_done = request;
}

/* Before the first command after a loss of power, and for each open(). */
static void pen_lun_check(struct pen_lun *lun)
{
	u64 request = lun->check_req;
	bool verify = lun->verify;
	bool present = lun->present;
	bool known;
	int ret = 0;

	lun->verify = false;
	mutex_unlock(&lun->lock);
	known = !verify || pen_scsi_same(lun);
	if (known && present)
		ret = pen_scsi_ready(lun);
	mutex_lock(&lun->lock);
	if (present && (!known || ret == -ESTALE || ret == -ENOMEDIUM)) {
		pen_lun_medium_lost(lun, -EIO);
		present = false;
	}
	if (!present && ret != -ENODEV) {
		mutex_unlock(&lun->lock);
		ret = pen_scsi_revalidate(lun, pen_timeout_ms);
		mutex_lock(&lun->lock);
	}
	lun->check_error = ret ? pen_errno(ret, false) : 0;
	lun->check_done = request;
}

static struct pen_buf *pen_pick(struct pen_lun *lun)
{
	struct pen_buf *flush = NULL, *ahead = NULL;
	int i;

	for (i = 0; i < PEN_BUFS; i++) {
		struct pen_buf *buf = lun->buf[i];

		if (!buf || buf->writer)
			continue;
		if (buf->want_first < buf->want_end) {
			if (!buf->ahead)
				return buf;
			if (!ahead || buf->index < ahead->index)
				ahead = buf;
		}
		if (buf->flush && (!flush || buf->stamp < flush->stamp))
			flush = buf;
	}
	return flush ? flush : ahead;
}

/**
 * pen_lun_work() - do everything that was asked for
 * @work: in the unit
 */
void pen_lun_work(struct work_struct *work)
{
	struct pen_lun *lun = container_of(work, struct pen_lun, work);
	unsigned int references = 0;

	mutex_lock(&lun->lock);
	while (!lun->dead) {
		struct pen_buf *buf;

		if (lun->verify || lun->check_done != lun->check_req) {
			pen_lun_check(lun);
			pen_cache_wake(lun);
			continue;
		}
		buf = pen_pick(lun);
		if (buf) {
			buf->io = true;
			if (buf->want_first < buf->want_end)
				pen_buf_fill(lun, buf);
			else
				pen_buf_flush(lun, buf);
			buf->io = false;
			pen_cache_wake(lun);
			continue;
		}
		if (lun->sync_done == lun->sync_req)
			break;
		pen_lun_sync(lun);
		pen_cache_wake(lun);
	}
	pen_cache_trim(lun);
	pen_cache_wake(lun);
	/* A file that is open has a reference of its own. */
	if (!pen_cache_busy(lun) && (lun->opens || !pen_cache_dirty(lun)))
		swap(references, lun->awake);
	mutex_unlock(&lun->lock);
	pen_power_put(lun->pen, references);
}

/**
 * pen_lun_idle() - nobody wrote for a moment: write back what there is
 * @work: in the unit
 *
 * For a program that is killed or never syncs; people pull sticks.
 */
void pen_lun_idle(struct work_struct *work)
{
	struct pen_lun *lun = container_of(to_delayed_work(work),
					   struct pen_lun, idle);
	int i;

	mutex_lock(&lun->lock);
	for (i = 0; i < PEN_BUFS; i++)
		if (lun->buf[i] && (lun->buf[i]->tail_block >= 0 ||
				    !bitmap_empty(lun->buf[i]->dirty,
						  PEN_MAX_BLOCKS)))
			lun->buf[i]->flush = true;
	/* Nobody is left who would ask for it. */
	if (!lun->opens && pen_cache_dirty(lun))
		lun->sync_req++;
	pen_lun_kick(lun);
	mutex_unlock(&lun->lock);
}
