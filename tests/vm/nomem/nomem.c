// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets single allocations of another module fail. Distributions build their
 * kernels without CONFIG_FAULT_INJECTION, so this does by return probes what
 * failslab would do: of the allocations that have the module's code anywhere
 * in their call chain, the first `skip` succeed, the next `count` give NULL.
 *
 * Parameters, all to be set in /sys/module/nomem/parameters at any time:
 *   within  the module's name
 *   skip    counts down to 0
 *   count   counts down to 0
 *   failed  how many failed so far
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>

#define DEPTH	24

static char within[32];
module_param_string(within, within, sizeof(within), 0644);
MODULE_PARM_DESC(within, "module whose allocations are looked at");

static uint skip;
module_param(skip, uint, 0644);
MODULE_PARM_DESC(skip, "how many succeed first");

static uint count;
module_param(count, uint, 0644);
MODULE_PARM_DESC(count, "how many fail then");

static uint failed;
module_param(failed, uint, 0644);
MODULE_PARM_DESC(failed, "how many failed so far");

static DEFINE_RAW_SPINLOCK(lock);

/* As the two kernels call them; what a kernel lacks is left out. */
static const char * const names[] = {
	"__kmalloc", "__kmalloc_noprof",
	"kmalloc_trace", "__kmalloc_cache_noprof",
	"kmalloc_large", "__kmalloc_large_noprof",
	"kmem_cache_alloc", "kmem_cache_alloc_noprof",
};

static struct kretprobe probes[ARRAY_SIZE(names)];

static bool chain_has_module(void)
{
	unsigned long chain[DEPTH];
	unsigned int n = stack_trace_save(chain, DEPTH, 0);
	char wanted[sizeof(within) + 2];
	char symbol[KSYM_SYMBOL_LEN];
	unsigned int i;

	snprintf(wanted, sizeof(wanted), "[%s]", within);
	for (i = 0; i < n; i++) {
		/* The kernel itself lies elsewhere, and is not asked about. */
		if (chain[i] < MODULES_VADDR || chain[i] >= MODULES_END)
			continue;
		sprint_symbol(symbol, chain[i]);
		if (strstr(symbol, wanted))
			return true;
	}
	return false;
}

/* Returns 0 for a call that shall fail. */
static int nomem_enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	unsigned long flags;
	bool fail = false;

	if (!READ_ONCE(count) || !chain_has_module())
		return 1;
	raw_spin_lock_irqsave(&lock, flags);
	if (skip) {
		skip--;
	} else if (count) {
		count--;
		failed++;
		fail = true;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	return !fail;
}

static int nomem_leave(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	kfree((void *)regs_return_value(regs));
	regs_set_return_value(regs, 0);
	return 0;
}

static void nomem_remove(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (probes[i].kp.addr)
			unregister_kretprobe(&probes[i]);
}

static int __init nomem_init(void)
{
	unsigned int found = 0;
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		probes[i].kp.symbol_name = names[i];
		probes[i].entry_handler = nomem_enter;
		probes[i].handler = nomem_leave;
		probes[i].maxactive = 8;
		ret = register_kretprobe(&probes[i]);
		if (ret == -ENOENT) {
			probes[i].kp.addr = NULL;
			continue;
		}
		if (ret) {
			probes[i].kp.addr = NULL;
			nomem_remove();
			return ret;
		}
		found++;
	}
	/* One of each pair. */
	if (found < ARRAY_SIZE(names) / 2) {
		nomem_remove();
		return -ENOENT;
	}
	return 0;
}

static void __exit nomem_exit(void)
{
	nomem_remove();
}

module_init(nomem_init);
module_exit(nomem_exit);

MODULE_DESCRIPTION("Lets allocations of another module fail, for tests");
MODULE_LICENSE("GPL");
