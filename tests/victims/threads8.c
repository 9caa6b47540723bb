//#Flags: -DTHREADS=8
//#Modes: root user newpid empty leave
#include "threads.h"
