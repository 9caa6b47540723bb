//#Flags: -DTHREADS=64
//#Modes: root user leave
#include "threads.h"
