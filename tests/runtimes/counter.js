// Four workers, each with a heap and an event loop of its own; see ../e2e/runtimes.rs.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");

function advance(x, steps) {
  for (let i = 0; i < steps; i++) x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  return x;
}

if (isMainThread) {
  const chunk = Number(process.argv[2]);
  const values = [1, 2, 3, 4];
  let asked = 0, done = 0, finish = false;
  const workers = values.map((seed, i) => {
    const worker = new Worker(__filename, { workerData: { seed, chunk } });
    worker.on("message", (value) => { values[i] = value; done++; end(); });
    return worker;
  });
  const end = () => {
    if (finish && done === asked * workers.length) {
      console.log("SUM " + values.reduce((a, b) => a + b));
      process.exit(0);
    }
  };
  let ticks = 0;
  setInterval(() => ticks++, 10);
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    if (line === "ping") {
      asked++;
      workers.forEach((worker) => worker.postMessage("go"));
      // A timer that goes off is a part of the answer.
      const before = ticks;
      const wait = () => (ticks > before ? console.log("PONG") : setTimeout(wait, 5));
      wait();
    } else if (line === "verify") {
      finish = true;
      end();
    }
  });
  console.log("READY");
} else {
  let x = workerData.seed;
  parentPort.on("message", () => {
    x = advance(x, workerData.chunk);
    parentPort.postMessage(x);
  });
}
