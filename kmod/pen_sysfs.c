// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/class/pen/penN: what the stick is, how it is, and how it went.
 */
#include <linux/sysfs.h>

#include "pen.h"

static struct pen_lun *to_lun(struct device *dev)
{
	return container_of(dev, struct pen_lun, dev);
}

#define PEN_ATTR(name, format, value)					\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	struct pen_lun *lun = to_lun(dev);				\
									\
	return sysfs_emit(buf, format "\n", value);			\
}									\
static DEVICE_ATTR_RO(name)

PEN_ATTR(vendor, "%s", lun->inquiry.vendor);
PEN_ATTR(model, "%s", lun->inquiry.model);
PEN_ATTR(rev, "%s", lun->inquiry.rev);
PEN_ATTR(serial, "%s", lun->pen->udev->serial ? lun->pen->udev->serial : "");
PEN_ATTR(speed, "%s", usb_speed_string(lun->pen->udev->speed));
PEN_ATTR(lun, "%u", lun->number);
PEN_ATTR(removable, "%d", lun->removable);
PEN_ATTR(read_only, "%d", READ_ONCE(lun->read_only));
PEN_ATTR(capacity_bytes, "%llu", READ_ONCE(lun->size));
PEN_ATTR(block_size, "%u", READ_ONCE(lun->geo.block_size));
PEN_ATTR(physical_block_size, "%u", READ_ONCE(lun->geo.physical_size));
PEN_ATTR(commands, "%lld", (s64)atomic64_read(&lun->pen->stats.commands));
PEN_ATTR(bytes_in, "%lld", (s64)atomic64_read(&lun->pen->stats.bytes_in));
PEN_ATTR(bytes_out, "%lld", (s64)atomic64_read(&lun->pen->stats.bytes_out));
PEN_ATTR(retries, "%lld", (s64)atomic64_read(&lun->pen->stats.retries));
PEN_ATTR(resets, "%lld", (s64)atomic64_read(&lun->pen->stats.resets));
PEN_ATTR(last_sense, "%06x", READ_ONCE(lun->last_sense));
PEN_ATTR(stalls, "%lld", (s64)atomic64_read(&lun->pen->stats.stalls));

static ssize_t state_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct pen_lun *lun = to_lun(dev);

	if (pen_gone(lun->pen))
		return sysfs_emit(buf, "gone\n");
	return sysfs_emit(buf, READ_ONCE(lun->present) ? "ready\n" :
							 "no-medium\n");
}
static DEVICE_ATTR_RO(state);

static ssize_t max_sectors_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_lun(dev)->max_sectors));
}

/* The size of the buffers follows it, so nobody may be using them. */
static ssize_t max_sectors_store(struct device *dev,
				 struct device_attribute *attr,
				 const char *buf, size_t count)
{
	struct pen_lun *lun = to_lun(dev);
	unsigned int value;
	int ret;

	ret = kstrtouint(buf, 0, &value);
	if (ret)
		return ret;
	if (!value || value > PEN_MAX_BLOCKS)
		return -EINVAL;
	mutex_lock(&lun->lock);
	pen_cache_trim(lun);
	if (lun->opens || lun->buf[0]) {
		ret = -EBUSY;
	} else {
		lun->max_sectors = value;
		if (lun->present)
			lun->window = pen_window_size(value,
						      lun->pen->map_limit,
						      lun->geo.block_size);
	}
	mutex_unlock(&lun->lock);
	return ret ? ret : count;
}
static DEVICE_ATTR_RW(max_sectors);

static struct attribute *pen_lun_attrs[] = {
	&dev_attr_vendor.attr,
	&dev_attr_model.attr,
	&dev_attr_rev.attr,
	&dev_attr_serial.attr,
	&dev_attr_speed.attr,
	&dev_attr_lun.attr,
	&dev_attr_removable.attr,
	&dev_attr_read_only.attr,
	&dev_attr_capacity_bytes.attr,
	&dev_attr_block_size.attr,
	&dev_attr_physical_block_size.attr,
	&dev_attr_max_sectors.attr,
	&dev_attr_state.attr,
	NULL
};

static const struct attribute_group pen_lun_group = {
	.attrs = pen_lun_attrs,
};

static struct attribute *pen_stats_attrs[] = {
	&dev_attr_commands.attr,
	&dev_attr_bytes_in.attr,
	&dev_attr_bytes_out.attr,
	&dev_attr_retries.attr,
	&dev_attr_resets.attr,
	&dev_attr_stalls.attr,
	&dev_attr_last_sense.attr,
	NULL
};

static const struct attribute_group pen_stats_group = {
	.name = "stats",
	.attrs = pen_stats_attrs,
};

const struct attribute_group *pen_lun_groups[] = {
	&pen_lun_group,
	&pen_stats_group,
	NULL
};
