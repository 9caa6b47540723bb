# Four threads that wait for one another; see ../e2e/runtimes.rs.
chunk = ARGV[0].to_i
$stdout.sync = true
queues = Array.new(4) { Queue.new }
threads = queues.each_with_index.map do |queue, place|
  Thread.new do
    x = place + 1
    while queue.pop
      chunk.times { x = (x * 1664525 + 1013904223) & 0xffffffff }
    end
    x
  end
end
puts "READY"
while $stdin.gets&.chomp == "ping"
  queues.each { |queue| queue << true }
  puts "PONG"
end
queues.each { |queue| queue << nil }
puts "SUM #{threads.sum(&:value)}"
