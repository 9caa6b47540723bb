// SPDX-License-Identifier: GPL-2.0-only
/*
 * The USB side of life: probe, scan, disconnect, sleep and reset.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "pen.h"

#define SCAN_READY_MS		100000
#define SECTORS_SUPER		2048
#define SECTORS_HIGH		240
#define PEN_PROTOCOL_BULK	0x50
#define PEN_PROTOCOL_UAS	0x62

static ushort vendor;
module_param(vendor, ushort, 0444);
MODULE_PARM_DESC(vendor, "drive only sticks of this vendor id");

static ushort product;
module_param(product, ushort, 0444);
MODULE_PARM_DESC(product, "with vendor: drive only this product id");

static bool any = true;
module_param(any, bool, 0444);
MODULE_PARM_DESC(any, "without vendor: take every free Bulk-Only stick (default Y); N leaves the choice to new_id");

static uint max_sectors;
module_param(max_sectors, uint, 0644);
MODULE_PARM_DESC(max_sectors, "largest transfer in 512-byte sectors (default 2048 at SuperSpeed, else 240)");

unsigned int pen_timeout_ms = 30000;
module_param_named(timeout_ms, pen_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "patience with one transfer");

unsigned int pen_flush_timeout_ms = 120000;
module_param_named(flush_timeout_ms, pen_flush_timeout_ms, uint, 0644);
MODULE_PARM_DESC(flush_timeout_ms, "patience with a flush of the stick's cache");

bool pen_sync_on_close = true;
module_param_named(sync_on_close, pen_sync_on_close, bool, 0644);
MODULE_PARM_DESC(sync_on_close, "close() waits until the bytes are on the flash (default Y)");

bool pen_force_read_only;
module_param_named(read_only, pen_force_read_only, bool, 0644);
MODULE_PARM_DESC(read_only, "treat every stick as write-protected");

struct workqueue_struct *pen_wq;

/* Sticks known to fail above a limit that nothing in their answers tells. */
static const struct {
	u16 vendor;
	u16 product;
	u16 rev;
	unsigned int sectors;
} pen_limits[] = {
	{ 0x058f, 0x6387, 0x0141, 64 },
};

static void pen_dev_free(struct kref *kref)
{
	struct pen_dev *pen = container_of(kref, struct pen_dev, kref);

	usb_free_urb(pen->urb);
	kfree(pen->cbw);
	kfree(pen->csw);
	kfree(pen->sense);
	usb_put_intf(pen->intf);
	usb_put_dev(pen->udev);
	kfree(pen);
}

/**
 * pen_dev_put() - one reference less
 * @pen: the stick
 */
void pen_dev_put(struct pen_dev *pen)
{
	kref_put(&pen->kref, pen_dev_free);
}

static void pen_announce(struct pen_lun *lun)
{
	struct pen_inquiry *who = &lun->inquiry;
	struct device *dev = &lun->dev;

	if (lun->present)
		dev_info(dev, "%s %s %s, %llu blocks of %u (%llu MiB), %s, %s, minor %d (%d:%d)\n",
			 who->vendor, who->model, who->rev, lun->geo.blocks,
			 lun->geo.block_size, lun->size >> 20,
			 lun->read_only ? "read-only" : "read-write",
			 usb_speed_string(lun->pen->udev->speed),
			 lun->minor, MAJOR(dev->devt), MINOR(dev->devt));
	else
		dev_info(dev, "%s %s %s, no medium, minor %d (%d:%d)\n",
			 who->vendor, who->model, who->rev,
			 lun->minor, MAJOR(dev->devt), MINOR(dev->devt));
}

static void pen_scan_lun(struct pen_dev *pen, u8 number)
{
	struct pen_lun *lun = pen_lun_create(pen, number);
	int ret;

	if (IS_ERR(lun)) {
		dev_err(&pen->intf->dev, "unit %u: no room: %ld\n", number,
			PTR_ERR(lun));
		return;
	}
	ret = pen_scsi_identify(lun);
	if (!ret && (lun->inquiry.qualifier || lun->inquiry.device_type))
		ret = -ENXIO;
	if (!ret)
		ret = pen_scsi_revalidate(lun, SCAN_READY_MS);
	if (!ret)
		ret = pen_lun_register(lun);
	if (ret) {
		if (!test_bit(PEN_STOPPING, &pen->flags) && !pen_gone(pen))
			dev_err(&pen->intf->dev,
				"unit %u is no usable disk: %d (type %#x, sense %06x)\n",
				number, ret, lun->inquiry.device_type,
				lun->last_sense);
		put_device(&lun->dev);
		return;
	}
	pen->luns[number] = lun;
	pen_announce(lun);
}

/*
 * Away from probe, which holds up the hub: a stick may take a minute until
 * it is ready. disconnect cancels this before it looks at luns[].
 */
static void pen_scan(struct work_struct *work)
{
	struct pen_dev *pen = container_of(work, struct pen_dev, scan);
	unsigned int i;

	pen->nluns = pen_bot_max_lun(pen) + 1;
	for (i = 0; i < pen->nluns; i++) {
		if (test_bit(PEN_STOPPING, &pen->flags))
			break;
		pen_scan_lun(pen, i);
	}
	usb_autopm_put_interface(pen->intf);
}

/* The setting of an interface in which it speaks a protocol, or NULL. */
static struct usb_host_interface *pen_alt(struct usb_interface *intf,
					  u8 protocol)
{
	unsigned int i;

	for (i = 0; i < intf->num_altsetting; i++) {
		struct usb_interface_descriptor *desc =
			&intf->altsetting[i].desc;

		if (desc->bInterfaceClass == USB_CLASS_MASS_STORAGE &&
		    desc->bInterfaceSubClass == 0x06 &&
		    desc->bInterfaceProtocol == protocol)
			return &intf->altsetting[i];
	}
	return NULL;
}

static void pen_limit(struct pen_dev *pen)
{
	struct device *dma = pen->udev->bus->sysdev;
	size_t mapping = dma_max_mapping_size(dma);
	u16 rev = le16_to_cpu(pen->udev->descriptor.bcdDevice);
	u16 ven = le16_to_cpu(pen->udev->descriptor.idVendor);
	u16 prod = le16_to_cpu(pen->udev->descriptor.idProduct);
	size_t i;

	pen->map_limit = min_t(size_t, mapping, SZ_1M);
	pen->max_sectors = pen->udev->speed >= USB_SPEED_SUPER ?
			   SECTORS_SUPER : SECTORS_HIGH;
	if (max_sectors)
		pen->max_sectors = min_t(uint, max_sectors, PEN_MAX_BLOCKS);
	for (i = 0; i < ARRAY_SIZE(pen_limits); i++)
		if (pen_limits[i].vendor == ven &&
		    pen_limits[i].product == prod && pen_limits[i].rev == rev)
			pen->max_sectors = min(pen->max_sectors,
					       pen_limits[i].sectors);
}

static int pen_probe(struct usb_interface *intf,
		     const struct usb_device_id *id)
{
	struct usb_device *udev = interface_to_usbdev(intf);
	struct usb_host_interface *alt = pen_alt(intf, PEN_PROTOCOL_BULK);
	struct usb_endpoint_descriptor *in, *out;
	struct pen_dev *pen;
	int ret;

	if (!alt) {
		if (pen_alt(intf, PEN_PROTOCOL_UAS))
			dev_info(&intf->dev,
				 "not driven: it speaks UAS only; as a block device the uas driver has it\n");
		else
			dev_info(&intf->dev,
				 "not driven: no Bulk-Only interface (class 08, subclass 06, protocol 50)\n");
		return -ENODEV;
	}
	if (usb_find_common_endpoints(alt, &in, &out, NULL, NULL) ||
	    !usb_endpoint_maxp(in) || !usb_endpoint_maxp(out)) {
		dev_info(&intf->dev, "not driven: bulk endpoints missing\n");
		return -ENODEV;
	}
	if (alt != intf->cur_altsetting) {
		ret = usb_set_interface(udev, alt->desc.bInterfaceNumber,
					alt->desc.bAlternateSetting);
		if (ret)
			return ret;
	}

	pen = kzalloc(sizeof(*pen), GFP_KERNEL);
	if (!pen)
		return -ENOMEM;
	kref_init(&pen->kref);
	pen->udev = usb_get_dev(udev);
	pen->intf = usb_get_intf(intf);
	pen->ifnum = alt->desc.bInterfaceNumber;
	pen->in_pipe = usb_rcvbulkpipe(udev, usb_endpoint_num(in));
	pen->out_pipe = usb_sndbulkpipe(udev, usb_endpoint_num(out));
	pen->signature = PEN_CSW_SIGNATURE;
	mutex_init(&pen->io);
	mutex_init(&pen->pm);
	init_usb_anchor(&pen->anchor);
	init_waitqueue_head(&pen->wait);
	INIT_WORK(&pen->scan, pen_scan);
	pen->urb = usb_alloc_urb(0, GFP_KERNEL);
	pen->cbw = kzalloc(PEN_SMALL, GFP_KERNEL);
	pen->csw = kzalloc(PEN_SMALL, GFP_KERNEL);
	pen->sense = kzalloc(PEN_SMALL, GFP_KERNEL);
	if (!pen->urb || !pen->cbw || !pen->csw || !pen->sense) {
		pen_dev_put(pen);
		return -ENOMEM;
	}
	pen_limit(pen);
	usb_set_intfdata(intf, pen);
	usb_autopm_get_interface_no_resume(intf);
	queue_work(system_freezable_wq, &pen->scan);
	return 0;
}

static void pen_disconnect(struct usb_interface *intf)
{
	struct pen_dev *pen = usb_get_intfdata(intf);
	unsigned int i;

	set_bit(PEN_STOPPING, &pen->flags);
	wake_up_all(&pen->wait);
	/* A scan that never ran still holds its power reference. */
	if (cancel_work_sync(&pen->scan))
		usb_autopm_put_interface_no_suspend(intf);

	for (i = 0; i < PEN_MAX_LUNS; i++)
		if (pen->luns[i])
			pen_lun_unregister(pen->luns[i]);
	for (i = 0; i < PEN_MAX_LUNS; i++)
		if (pen->luns[i] && !pen_gone(pen))
			pen_cache_sync(pen->luns[i], pen_flush_timeout_ms);

	mutex_lock(&pen->pm);
	set_bit(PEN_GONE, &pen->flags);
	mutex_unlock(&pen->pm);
	usb_poison_anchored_urbs(&pen->anchor);
	wake_up_all(&pen->wait);
	for (i = 0; i < PEN_MAX_LUNS; i++) {
		struct pen_lun *lun = pen->luns[i];

		if (!lun)
			continue;
		pen_cache_shutdown(lun);
		dev_info(&lun->dev, "gone\n");
		put_device(&lun->dev);
	}
	usb_set_intfdata(intf, NULL);
	pen_dev_put(pen);
}

/*
 * Programs are frozen, or (autosuspend) there is no open file, and neither a
 * command nor a byte to write, see pen.h.
 */
static int pen_suspend(struct usb_interface *intf, pm_message_t message)
{
	struct pen_dev *pen = usb_get_intfdata(intf);
	unsigned int i;

	for (i = 0; i < PEN_MAX_LUNS; i++) {
		struct pen_lun *lun = pen->luns[i];
		bool busy;

		if (!lun)
			continue;
		mutex_lock(&lun->lock);
		busy = pen_cache_busy(lun) || pen_cache_dirty(lun);
		mutex_unlock(&lun->lock);
		if (busy && PMSG_IS_AUTO(message))
			return -EBUSY;
		if (PMSG_IS_AUTO(message))
			continue;
		if (pen_cache_sync(lun, pen_flush_timeout_ms))
			dev_warn(&lun->dev, "asleep with bytes unwritten\n");
		cancel_delayed_work_sync(&lun->idle);
		flush_work(&lun->work);
	}
	return 0;
}

static int pen_resume(struct usb_interface *intf)
{
	return 0;
}

/* Power was lost: the medium is looked at again before it is touched. */
static int pen_reset_resume(struct usb_interface *intf)
{
	struct pen_dev *pen = usb_get_intfdata(intf);
	unsigned int i;

	for (i = 0; i < PEN_MAX_LUNS; i++) {
		struct pen_lun *lun = pen->luns[i];

		if (!lun)
			continue;
		mutex_lock(&lun->lock);
		lun->verify = true;
		pen_lun_kick(lun);
		mutex_unlock(&lun->lock);
	}
	return 0;
}

/*
 * Without these two a reset by anybody unbinds the driver, and the node is
 * gone in the middle of a copy. The unit attention that follows is answered
 * where every other one is.
 */
static int pen_pre_reset(struct usb_interface *intf)
{
	struct pen_dev *pen = usb_get_intfdata(intf);

	mutex_lock(&pen->io);
	return 0;
}

static int pen_post_reset(struct usb_interface *intf)
{
	struct pen_dev *pen = usb_get_intfdata(intf);

	mutex_unlock(&pen->io);
	return 0;
}

/*
 * Filled in when the module loads, and not exported as an alias: inserting
 * the module is the user's choice, plugging in a stick is none.
 */
static struct usb_device_id pen_table[2];

static struct usb_driver pen_driver = {
	.name			= PEN_NAME,
	.id_table		= pen_table,
	.probe			= pen_probe,
	.disconnect		= pen_disconnect,
	.suspend		= pen_suspend,
	.resume			= pen_resume,
	.reset_resume		= pen_reset_resume,
	.pre_reset		= pen_pre_reset,
	.post_reset		= pen_post_reset,
	.supports_autosuspend	= 1,
	/* Let disconnect write back before the transfers are cut off. */
	.soft_unbind		= 1,
};

static int __init pen_init(void)
{
	int ret;

	if (product && !vendor) {
		pr_err("product= goes with vendor=\n");
		return -EINVAL;
	}
	if (vendor) {
		pen_table[0].match_flags = USB_DEVICE_ID_MATCH_VENDOR |
					   USB_DEVICE_ID_MATCH_INT_CLASS;
		pen_table[0].idVendor = vendor;
		pen_table[0].bInterfaceClass = USB_CLASS_MASS_STORAGE;
		if (product) {
			pen_table[0].match_flags |= USB_DEVICE_ID_MATCH_PRODUCT;
			pen_table[0].idProduct = product;
		}
	} else if (any) {
		pen_table[0].match_flags = USB_DEVICE_ID_MATCH_INT_CLASS;
		pen_table[0].bInterfaceClass = USB_CLASS_MASS_STORAGE;
	}

	pen_wq = alloc_workqueue(PEN_NAME, WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!pen_wq)
		return -ENOMEM;
	ret = pen_dev_init();
	if (ret)
		goto no_dev;
	ret = usb_register(&pen_driver);
	if (ret)
		goto no_usb;
	return 0;

no_usb:
	pen_dev_exit();
no_dev:
	destroy_workqueue(pen_wq);
	return ret;
}

static void __exit pen_exit(void)
{
	usb_deregister(&pen_driver);
	pen_dev_exit();
	destroy_workqueue(pen_wq);
}

module_init(pen_init);
module_exit(pen_exit);

MODULE_DESCRIPTION("USB pen drives as character devices, /dev/penN");
MODULE_AUTHOR("The dumper project");
MODULE_LICENSE("GPL");
