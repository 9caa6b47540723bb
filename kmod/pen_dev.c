// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/penN: system calls, and the life of a logical unit.
 */
#include <linux/blkdev.h>
#include <linux/compat.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "pen.h"

/* sizeof(size_t) is part of the number: 32-bit programs have another one. */
#define PEN_BLKGETSIZE64_32	_IOR(0x12, 114, int)

static dev_t pen_base;
static DEFINE_IDA(pen_ida);

static int pen_power_up(struct pen_file *file)
{
	struct pen_dev *pen = file->lun->pen;
	int ret = -ENODEV;

	mutex_lock(&pen->pm);
	if (!test_bit(PEN_GONE, &pen->flags))
		ret = usb_autopm_get_interface(pen->intf);
	mutex_unlock(&pen->pm);
	file->pm = !ret;
	return ret;
}

/**
 * pen_power_put() - the stick may sleep, as far as these references go
 * @pen: the stick; none of its units' locks held
 * @references: how many
 */
void pen_power_put(struct pen_dev *pen, unsigned int references)
{
	mutex_lock(&pen->pm);
	while (references-- && !test_bit(PEN_GONE, &pen->flags))
		usb_autopm_put_interface_async(pen->intf);
	mutex_unlock(&pen->pm);
}

static void pen_file_drop(struct pen_file *file)
{
	struct pen_lun *lun = file->lun;

	mutex_lock(&lun->lock);
	if (file->excl)
		lun->excl = false;
	lun->opens--;
	if (!lun->opens && !lun->dead) {
		pen_cache_stop_ahead(lun);
		/* A killed writer leaves bytes behind: write them now. */
		if (pen_cache_dirty(lun))
			mod_delayed_work(pen_wq, &lun->idle, 0);
		if (file->pm && (pen_cache_dirty(lun) || pen_cache_busy(lun))) {
			lun->awake++;
			file->pm = false;
		}
	}
	pen_cache_trim(lun);
	mutex_unlock(&lun->lock);
	pen_power_put(lun->pen, file->pm);
	kfree(file);
}

static int pen_open_locked(struct pen_file *file, struct file *filp)
{
	struct pen_lun *lun = file->lun;
	int ret;

	ret = pen_cache_alloc(lun);
	if (ret)
		return ret;
	ret = pen_cache_check(lun);
	if (ret)
		return ret;
	file->gen = lun->gen;
	file->since = errseq_sample(&lun->wb_err);
	if (!lun->present) {
		if (filp->f_flags & O_NONBLOCK)
			return 0;
		return lun->check_error ? lun->check_error : -ENOMEDIUM;
	}
	if ((filp->f_mode & FMODE_WRITE) && lun->read_only)
		return -EROFS;
	return 0;
}

static int pen_open(struct inode *inode, struct file *filp)
{
	struct pen_lun *lun = container_of(inode->i_cdev, struct pen_lun,
					   cdev);
	struct pen_file *file;
	int ret;

	file = kzalloc(sizeof(*file), GFP_KERNEL);
	if (!file)
		return -ENOMEM;
	file->lun = lun;
	ret = pen_power_up(file);
	if (ret) {
		kfree(file);
		return ret;
	}

	mutex_lock(&lun->lock);
	if (lun->excl || ((filp->f_flags & O_EXCL) && lun->opens)) {
		mutex_unlock(&lun->lock);
		pen_power_put(lun->pen, file->pm);
		kfree(file);
		return -EBUSY;
	}
	lun->opens++;
	if (filp->f_flags & O_EXCL) {
		lun->excl = true;
		file->excl = true;
	}
	ret = pen_open_locked(file, filp);
	mutex_unlock(&lun->lock);
	if (ret) {
		pen_file_drop(file);
		return ret;
	}
	filp->private_data = file;
	/* O_DIRECT is welcome: it asks for nothing that is not done. */
	filp->f_mode |= FMODE_CAN_ODIRECT;
	return 0;
}

static int pen_release(struct inode *inode, struct file *filp)
{
	pen_file_drop(filp->private_data);
	return 0;
}

static int pen_file_sync(struct pen_file *file)
{
	int ret = pen_cache_sync(file->lun, 0);

	/* Otherwise waiting ended early: the bytes are still under way. */
	if (!ret || ret == -ENODEV)
		file->wrote = false;
	return ret;
}

/* The error of a lost write, once to each open file. */
static int pen_file_error(struct pen_file *file, int otherwise)
{
	int error = errseq_check_and_advance(&file->lun->wb_err, &file->since);

	return error ? error : otherwise;
}

static int pen_fsync(struct file *filp, loff_t start, loff_t end, int datasync)
{
	struct pen_file *file = filp->private_data;

	if (pen_gone(file->lun->pen))
		return pen_file_error(file, -ENODEV);
	return pen_file_error(file, pen_file_sync(file));
}

/*
 * Unlike that of release, this return value reaches close(2). 0 means that
 * the bytes are on the stick; a file that wrote nothing has nothing to tell.
 *
 * The error stays: a child that a program starts closes its copy of the
 * descriptor in execve(), where nobody looks at the result.
 */
static int pen_flush(struct file *filp, fl_owner_t id)
{
	struct pen_file *file = filp->private_data;
	int ret = 0, error;

	if (!(filp->f_mode & FMODE_WRITE) || !pen_sync_on_close)
		return 0;
	if (file->wrote)
		ret = pen_file_sync(file);
	error = errseq_check(&file->lun->wb_err, READ_ONCE(file->since));
	return error ? error : ret;
}

static ssize_t pen_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct pen_file *file = iocb->ki_filp->private_data;
	ssize_t done = 0;

	while (iov_iter_count(to)) {
		ssize_t n = pen_cache_read(file, iocb->ki_pos, to);

		if (n <= 0)
			return done ? done : n;
		iocb->ki_pos += n;
		done += n;
	}
	return done;
}

static ssize_t pen_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct pen_file *file = iocb->ki_filp->private_data;
	ssize_t done = 0, n = 0;

	while (iov_iter_count(from)) {
		n = pen_cache_write(file, iocb->ki_pos, from);
		if (n <= 0)
			break;
		iocb->ki_pos += n;
		done += n;
	}
	if (!done)
		return n;
	return generic_write_sync(iocb, done);
}

static loff_t pen_llseek(struct file *filp, loff_t offset, int whence)
{
	struct pen_file *file = filp->private_data;

	return fixed_size_llseek(filp, offset, whence,
				 READ_ONCE(file->lun->size));
}

static __poll_t pen_poll(struct file *filp, poll_table *wait)
{
	struct pen_file *file = filp->private_data;
	struct pen_lun *lun = file->lun;
	__poll_t mask = EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM;

	poll_wait(filp, &lun->wait, wait);
	if (pen_gone(lun->pen) || READ_ONCE(lun->dead))
		mask |= EPOLLERR | EPOLLHUP;
	else if (READ_ONCE(lun->gen) != file->gen)
		mask |= EPOLLERR;
	return mask;
}

static long pen_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct pen_file *file = filp->private_data;
	struct pen_lun *lun = file->lun;
	void __user *to = (void __user *)arg;
	u32 block_size, physical;
	bool present, read_only;
	u64 size;
	int ret;

	if (pen_gone(lun->pen))
		return -ENODEV;
	mutex_lock(&lun->lock);
	present = lun->present && lun->gen == file->gen;
	size = lun->size;
	block_size = lun->geo.block_size;
	physical = lun->geo.physical_size;
	read_only = lun->read_only;
	mutex_unlock(&lun->lock);

	switch (cmd) {
	case BLKROGET:
		return put_user((int)read_only, (int __user *)to);
	case BLKGETSIZE64:
	case PEN_BLKGETSIZE64_32:
	case BLKGETSIZE:
	case BLKSSZGET:
	case BLKPBSZGET:
	case BLKFLSBUF:
		break;
	default:
		return -ENOTTY;
	}
	if (!present)
		return -ENOMEDIUM;
	switch (cmd) {
	case BLKGETSIZE:
		if (in_compat_syscall())
			return size >> 9 > U32_MAX ? -EFBIG :
			       put_user((u32)(size >> 9), (u32 __user *)to);
		return size >> 9 > ULONG_MAX ? -EFBIG :
		       put_user((unsigned long)(size >> 9),
				(unsigned long __user *)to);
	case BLKSSZGET:
		return put_user((int)block_size, (int __user *)to);
	case BLKPBSZGET:
		return put_user(physical, (unsigned int __user *)to);
	case BLKFLSBUF:
		if (!capable(CAP_SYS_ADMIN))
			return -EACCES;
		ret = pen_file_error(file, pen_file_sync(file));
		mutex_lock(&lun->lock);
		pen_cache_invalidate(lun);
		mutex_unlock(&lun->lock);
		return ret;
	default:
		return put_user(size, (u64 __user *)to);
	}
}

static const struct file_operations pen_fops = {
	.owner		= THIS_MODULE,
	.open		= pen_open,
	.release	= pen_release,
	.flush		= pen_flush,
	.fsync		= pen_fsync,
	.read_iter	= pen_read_iter,
	.write_iter	= pen_write_iter,
	.llseek		= pen_llseek,
	.poll		= pen_poll,
	.unlocked_ioctl	= pen_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	.splice_read	= copy_splice_read,
#else
	.splice_read	= generic_file_splice_read,
#endif
	.splice_write	= iter_file_splice_write,
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
static char *pen_devnode(const struct device *dev, umode_t *mode)
#else
static char *pen_devnode(struct device *dev, umode_t *mode)
#endif
{
	if (mode)
		*mode = 0660;
	return NULL;
}

struct class pen_class = {
	.name		= "pen",
	.devnode	= pen_devnode,
	.dev_groups	= pen_lun_groups,
};

static void pen_lun_release(struct device *dev)
{
	struct pen_lun *lun = container_of(dev, struct pen_lun, dev);

	pen_cache_free(lun);
	kfree(lun->small);
	kfree(lun->bounce);
	ida_free(&pen_ida, lun->minor);
	pen_dev_put(lun->pen);
	kfree(lun);
}

/**
 * pen_lun_create() - a unit that nobody sees yet
 * @pen: its stick
 * @number: of the unit
 */
struct pen_lun *pen_lun_create(struct pen_dev *pen, u8 number)
{
	struct pen_lun *lun = kzalloc(sizeof(*lun), GFP_KERNEL);

	if (!lun)
		return ERR_PTR(-ENOMEM);
	lun->small = kzalloc(PEN_SMALL, GFP_KERNEL);
	lun->bounce = kzalloc(4096, GFP_KERNEL);
	lun->minor = -ENOMEM;
	if (lun->small && lun->bounce)
		lun->minor = ida_alloc_max(&pen_ida, PEN_MINORS - 1,
					   GFP_KERNEL);
	if (lun->minor < 0) {
		int ret = lun->minor;

		kfree(lun->small);
		kfree(lun->bounce);
		kfree(lun);
		return ERR_PTR(ret);
	}
	kref_get(&pen->kref);
	lun->pen = pen;
	lun->number = number;
	lun->max_sectors = pen->max_sectors;
	pen_cache_init(lun);
	device_initialize(&lun->dev);
	lun->dev.class = &pen_class;
	lun->dev.parent = &pen->intf->dev;
	lun->dev.release = pen_lun_release;
	lun->dev.devt = pen_base + lun->minor;
	cdev_init(&lun->cdev, &pen_fops);
	lun->cdev.owner = THIS_MODULE;
	return lun;
}

/**
 * pen_lun_register() - make /dev/penN appear
 * @lun: identified
 */
int pen_lun_register(struct pen_lun *lun)
{
	int ret = dev_set_name(&lun->dev, "pen%d", lun->minor);

	if (!ret)
		ret = cdev_device_add(&lun->cdev, &lun->dev);
	lun->registered = !ret;
	return ret;
}

void pen_lun_unregister(struct pen_lun *lun)
{
	if (lun->registered)
		cdev_device_del(&lun->cdev, &lun->dev);
	lun->registered = false;
}

/*
 * A number range and a class of our own: usb_register_dev() shares its 256
 * minors with printers and others, and would call the first stick pen1 when
 * a printer is plugged in.
 */
int __init pen_dev_init(void)
{
	int ret;

	ret = alloc_chrdev_region(&pen_base, 0, PEN_MINORS, PEN_NAME);
	if (ret)
		return ret;
	ret = class_register(&pen_class);
	if (ret)
		unregister_chrdev_region(pen_base, PEN_MINORS);
	return ret;
}

void pen_dev_exit(void)
{
	class_unregister(&pen_class);
	unregister_chrdev_region(pen_base, PEN_MINORS);
	ida_destroy(&pen_ida);
}
