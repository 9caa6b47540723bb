<?php
// Four generators in turn, beside the wait for input; see ../e2e/runtimes.rs.
function walk(int $x, int $chunk): Generator
{
    $left = 0;
    while (true) {
        for ($i = 0; $i < min($left, 10000); $i++) {
            $x = ($x * 1664525 + 1013904223) & 0xffffffff;
        }
        $left -= $i;
        $left += (yield [$x, $left]) ? $chunk : 0;
    }
}

$walkers = array_map(fn ($seed) => walk($seed, (int) $argv[1]), [1, 2, 3, 4]);
echo "READY\n";
for ($finish = false;;) {
    $token = false;
    $read = [STDIN];
    $none = null;
    $busy = array_sum(array_map(fn ($walker) => $walker->current()[1], $walkers)) > 0;
    if ($finish && !$busy) {
        break;
    }
    if (!$finish && stream_select($read, $none, $none, $busy ? 0 : null)) {
        $token = fgets(STDIN) === "ping\n";
        $finish = !$token;
        echo $token ? "PONG\n" : "";
    }
    foreach ($walkers as $walker) {
        $walker->send($token);
    }
}
echo "SUM ", array_sum(array_map(fn ($walker) => $walker->current()[0], $walkers)), "\n";
