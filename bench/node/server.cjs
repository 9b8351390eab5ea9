'use strict';
// The server that is measured: the same program for both contenders, only the module it requires differs.
//
//   node server.cjs MODULE WORKERS
//
// The primary takes commands, a line each, on stdin: storm EVERY FOR, roll PAUSE, block FOR, rest,
// quit, all times in milliseconds; it answers in lines of JSON.

const http = require('node:http');

const [, , moduleName, workerCount] = process.argv;
const cluster = require(moduleName);

function handler() {
  const asleep = new Int32Array(new SharedArrayBuffer(4));
  return (request, response) => {
    if (request.url === '/burn') {
      const end = performance.now() + 30;
      while (performance.now() < end);
    } else if (request.url === '/wait') {
      Atomics.wait(asleep, 0, 0, 30);
    }
    response.end('hello world\n');
  };
}

function primary() {
  const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  // By pid, since a worker that disconnected is no longer in cluster.workers while it still answers.
  const alive = new Map();
  const counts = { kills: 0, rolled: 0, crashed: 0 };
  let quitting = false;
  let killing = false;
  let timer = null;

  const fork = () => {
    const worker = cluster.fork();
    alive.set(worker.process.pid, worker);
    worker.on('listening', () => { worker.serves = true; });
    worker.process.on('exit', (code, signal) => {
      alive.delete(worker.process.pid);
      if (quitting) return;
      if (worker.leaving ? code !== 0 : signal !== 'SIGKILL' || !killing) counts.crashed++;
      if (!worker.leaving) fork();
    });
    return worker;
  };
  const oldest = () => [...alive.values()].find((worker) => worker.serves && !worker.leaving);

  const kill = () => {
    const worker = oldest();
    if (!worker) return;
    worker.serves = false;
    counts.kills += Number(process.kill(worker.process.pid, 'SIGKILL'));
  };

  // The successor listens before its predecessor leaves.
  const roll = (pause) => {
    if (!timer) return;
    fork().once('listening', () => {
      // At the end of a round everything may have been told to end meanwhile.
      if (!timer || quitting) return;
      const worker = oldest();
      worker.leaving = true;
      worker.disconnect();
      worker.once('disconnect', () => {
        counts.rolled++;
        if (timer) timer = setTimeout(roll, pause, pause);
      });
    });
  };

  const commands = {
    // It ends with the load, not with the wait for what hangs: only kills under load count.
    storm(period, time) {
      killing = true;
      timer = setInterval(kill, period);
      setTimeout(commands.rest, time);
    },
    roll(pause) { timer = setTimeout(roll, 0, pause); },
    block(time) {
      const begun = performance.now();
      while (performance.now() < begun + time);
      say({ blocked: performance.now() - begun });
    },
    rest() { clearTimeout(timer); timer = null; },
    quit() {
      quitting = true;
      let accepted = null;
      if (cluster.stats) accepted = cluster.stats().addresses.reduce((sum, address) => sum + address.accepted, 0);
      say({ ...counts, accepted, remaining: alive.size });
      // Workers that left but still hold connections get no message any more; nobody is served now, so all are killed.
      for (const pid of alive.keys()) process.kill(pid, 'SIGKILL');
      process.stdin.destroy();
      setInterval(() => { if (alive.size === 0) process.exit(0); }, 5);
    },
  };

  let input = '';
  process.stdin.setEncoding('utf8').on('data', (chunk) => {
    const lines = (input + chunk).split('\n');
    input = lines.pop();
    for (const line of lines) {
      const [name, ...values] = line.split(' ');
      commands[name](...values.map(Number));
    }
  });
  process.stdin.on('end', () => commands.quit());

  let listening = 0;
  const report = (worker, address) => {
    if (++listening < Number(workerCount)) return;
    cluster.removeListener('listening', report);
    say({ port: address.port, primary: process.pid, workers: [...alive.keys()] });
  };
  cluster.on('listening', report);
  for (let i = 0; i < Number(workerCount); i++) fork();
}

if (cluster.isPrimary) primary();
else http.createServer(handler()).listen(0, '127.0.0.1');
