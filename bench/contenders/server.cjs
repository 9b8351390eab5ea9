'use strict';
// The servers in Node: node:cluster, or cluster-rs in its place.
//
// usage: server.cjs MODULE POLICY KIND WORKERS ANSWER
//   POLICY rr or none      KIND net (a connection is ended at once) or http      ANSWER 1: net sends a byte before that
//
// The primary prints "ready PORT MECHANISM" when all workers listen, or "unavailable REASON" and ends. It answers "counts" on its
// standard input with what each worker has served, and ends its workers and itself when that is closed. POLICY and the mechanism
// that is asked for reach the module by its own means (NODE_CLUSTER_SCHED_POLICY, CL_MECHANISM); MECHANISM is what it uses, or
// "stock".

const [module_, , kind, workerCount, answer] = process.argv.slice(2);
const cluster = require(module_);

// 1 % of the requests of some figures: the event loop is held up, by work or by something that waits in the kernel.
const block = {
  '/burn': (milliseconds) => {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
  },
  '/wait': (milliseconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds),
};

// What handlers.h does in C. The thread's own time is not known to every Node; that of the process is nearly the same.
function spend(milliseconds) {
  const used = () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  };
  const end = used() + milliseconds * 1000;
  while (used() < end);
}
const handlers = {
  '/short': (answer) => { spend(0.2); answer(); },
  '/long': (answer) => { spend(30); answer(); },
  '/later': (answer) => setTimeout(() => { spend(0.2); answer(); }, 20),
};

// A mechanism that needs a privilege is refused to the first worker that listens.
function refused(error) {
  // Another worker may have been first, and the primary gone.
  cluster.worker.on('error', () => process.exit(1));
  process.send({ refused: error.message }, () => process.exit(1));
}

function serve() {
  let served = 0;
  process.on('message', (message) => {
    if (message === 'counts') process.send({ served });
  });
  if (kind === 'net') {
    const byte = answer === '1' ? 'x' : undefined;
    require('node:net').createServer((socket) => {
      served++;
      socket.on('error', () => {});
      socket.end(byte);
    }).on('error', refused).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
    return;
  }
  // Connections that are kept are not ended while the next one waits for its time.
  require('node:http').createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    served++;
    block[request.url]?.(30);
    const answer = () => response.end('ok');
    (handlers[request.url] ?? ((now) => now()))(answer);
  }).on('error', refused).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
}

function counts(workers) {
  return Promise.all(workers.map((worker) => new Promise((resolve) => {
    if (!worker.isConnected()) {
      resolve(0);
      return;
    }
    worker.once('message', ({ served }) => resolve(served));
    worker.send('counts');
  })));
}

// Which of its ways the engine uses is the same for every address here.
function mechanism() {
  const address = cluster.stats?.().addresses[0];
  return address ? address.mechanism ?? 'passed' : 'stock';
}

function lead() {
  const workers = [];
  let listening = 0;
  cluster.on('listening', (worker, address) => {
    if (++listening === Number(workerCount)) process.stdout.write(`ready ${address.port} ${mechanism()}\n`);
  });
  const quit = () => {
    for (const worker of workers) worker.process.kill('SIGKILL');
    process.exit(0);
  };
  // A build that does not know the mechanism yet says so at the first fork.
  const fork = () => {
    try {
      return cluster.fork();
    } catch (error) {
      if (!error.message.startsWith('CL_MECHANISM is')) throw error;
      process.stdout.write(`unavailable ${error.message}\n`, quit);
      return undefined;
    }
  };
  for (let i = 0; i < Number(workerCount); i++) {
    const worker = fork();
    if (!worker) return;
    workers.push(worker);
    worker.once('message', ({ refused: reason }) => {
      if (reason) process.stdout.write(`unavailable ${reason}\n`, quit);
    });
  }
  let input = '';
  process.stdin.setEncoding('utf8').on('data', async (chunk) => {
    const lines = (input + chunk).split('\n');
    input = lines.pop();
    for (const line of lines) {
      if (line === 'counts') process.stdout.write(`counts ${(await counts(workers)).join(' ')}\n`);
    }
  });
  process.stdin.on('end', quit);
}

if (cluster.isPrimary) lead();
else serve();
