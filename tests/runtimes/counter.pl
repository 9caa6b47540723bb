# Four interpreters in threads of their own; see ../e2e/runtimes.rs.
use strict;
use warnings;
use threads;
use Thread::Queue;

my $chunk = shift;
$| = 1;
my @queues = map { Thread::Queue->new } 1 .. 4;
my @threads = map {
    my $place = $_;
    threads->create(sub {
        my $x = $place + 1;
        while ($queues[$place]->dequeue) {
            $x = ($x * 1664525 + 1013904223) & 0xffffffff for 1 .. $chunk;
        }
        return $x;
    });
} 0 .. 3;
print "READY\n";
while (defined(my $line = <STDIN>)) {
    last if $line ne "ping\n";
    $_->enqueue(1) for @queues;
    print "PONG\n";
}
$_->enqueue(0) for @queues;
my $sum = 0;
$sum += $_->join for @threads;
print "SUM $sum\n";
