// Four threads, and a heap that the collector is at work in; see ../e2e/runtimes.rs.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.LinkedBlockingQueue;

public class Counter {
    static final class Walker extends Thread {
        final LinkedBlockingQueue<Boolean> tokens = new LinkedBlockingQueue<>();
        final int chunk;
        int x;
        final Map<Integer, byte[]> kept = new HashMap<>();

        Walker(int seed, int chunk) {
            this.x = seed;
            this.chunk = chunk;
        }

        @Override
        public void run() {
            try {
                while (tokens.take()) {
                    for (int i = 0; i < chunk; i++) {
                        x = x * 1664525 + 1013904223;
                        if (i % 1024 == 0) kept.put(x & 255, new byte[4096]);
                    }
                }
            } catch (InterruptedException e) {
                x = 0;
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        int chunk = Integer.parseInt(arguments[0]);
        List<Walker> walkers = new ArrayList<>();
        for (int seed = 1; seed <= 4; seed++) {
            Walker walker = new Walker(seed, chunk);
            walker.start();
            walkers.add(walker);
        }
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("READY");
        for (String line; (line = input.readLine()) != null; ) {
            boolean more = line.equals("ping");
            for (Walker walker : walkers) walker.tokens.add(more);
            if (!more) break;
            System.out.println("PONG");
        }
        long sum = 0;
        for (Walker walker : walkers) {
            walker.join();
            sum += Integer.toUnsignedLong(walker.x);
        }
        System.out.println("SUM " + sum);
    }
}
