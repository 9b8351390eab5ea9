'use strict';

// cluster-rs where the library replaces workers (cluster.reload, scale, recycle): the primary, and what becomes of a worker before
// it serves as those of node.cjs do. How the rig speaks with it stands in ../README.md.

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { constants: { signals } } = require('node:os');

const { env } = process;
const UNAVAILABLE = 77;
const FINAL = ['done', 'refused', 'rolled-back', 'superseded'];
const LIMITS = {
  memory: (kb) => ({ rss: kb * 1024 }),
  connections: (connections) => ({ connections }),
  age: (seconds) => ({ age: seconds * 1000 }),
};

function tell(line) {
  fs.writeSync(1, `${JSON.stringify(line)}\n`);
}

function loaded() {
  try {
    return require(env.FAULTS_MODULE);
  } catch (error) {
    tell({ event: 'unavailable', text: error.message.split('\n')[0] });
    return process.exit(UNAVAILABLE);
  }
}

const cluster = loaded();

// ---- a worker

const FATES = {
  exits: () => process.exit(7),
  crashes: () => process.kill(process.pid, 'SIGKILL'),
  // It reads nothing that is said to it, and ends by a signal only.
  hangs: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0),
};

function live() {
  const fate = env.FAULTS_FATE || 'good';
  FATES[fate]?.();
  // A second address, so that there is something to leave out.
  if (fate !== 'less') net.createServer((socket) => socket.destroy()).listen(Number(env.FAULTS_SECOND), '127.0.0.2');
  if (fate !== 'unready') cluster.ready();
  require('./node.cjs');
}

// ---- the primary

let stopping = false;
let inForce = 1;

function mechanism() {
  return cluster.schedulingPolicy === cluster.SCHED_NONE ? 'shared' : cluster.stats().addresses[0].mechanism;
}

cluster.on('fork', (worker) => {
  const { id, slot, process: { pid } } = worker;
  tell({ event: 'fork', id, pid, slot });
  worker.on('error', (error) => tell({ event: 'warning', text: `worker ${id}: ${error.message}` }));
  worker.on('message', ({ refused }) => refused && tell({ event: 'unavailable', text: refused }));
  worker.on('listening', ({ address, port }) => {
    if (address === '127.0.0.1') tell({ event: 'listening', id, pid, port, mechanism: mechanism() });
  });
  worker.on('exit', (code, signal) => {
    tell({ event: 'exit', id, pid, code: code ?? -1, signal: signals[signal] ?? 0 });
    if (stopping && Object.keys(cluster.workers).length === 0) process.exit(0);
  });
});
cluster.on('recycle', ({ id }) => tell({ event: 'recycled', id }));
cluster.on('reload', ({ generation, phase, reason }) => {
  if (phase === 'done') inForce = generation;
  if (FINAL.includes(phase)) tell({ event: 'reload', generation, phase, text: reason });
});
process.on('warning', ({ message }) => tell({ event: 'warning', text: message }));

const COMMANDS = {
  reload: ([parallel, minReady, readyTimeout, fate]) => {
    const options = { parallel: Number(parallel), minReady: Number(minReady), readyTimeout: Number(readyTimeout) };
    cluster.reload({ ...options, env: { FAULTS_FATE: fate } });
  },
  scale: ([count]) => cluster.scale(Number(count)),
  recycle: ([by, limit]) => cluster.recycle({ ...LIMITS[by]?.(Number(limit)), atATime: 2 }),
  restart: ([id]) => cluster.workers[id]?.restart(),
  stop: () => {
    stopping = true;
    // Whoever hangs, or has never come so far as to listen.
    for (const worker of Object.values(cluster.workers)) if (worker.generation !== inForce) worker.process.kill('SIGKILL');
    cluster.disconnect();
    if (Object.keys(cluster.workers).length === 0) process.exit(0);
  },
};

function command(line) {
  const [what, ...rest] = line.split(' ');
  let code = 0;
  try {
    COMMANDS[what](rest);
  } catch (error) {
    code = error.errno ?? -1;
  }
  tell({ event: 'asked', code });
}

// A port that is free, so that all workers ask for the same one.
function freePort(host) {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, host, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function lead() {
  cluster.schedulingPolicy = env.FAULTS_POLICY === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  const kind = env.FAULTS_MECHANISM || 'auto';
  cluster.setupPrimary({ exec: path.resolve(__filename), waitReady: true, ...(kind === 'none' ? {} : { mechanism: kind }) });
  env.FAULTS_PORT = await freePort('127.0.0.1');
  env.FAULTS_SECOND = await freePort('127.0.0.2');
  for (let i = 0; i < Number(env.FAULTS_WORKERS); i++) cluster.fork();
  let rest = '';
  process.stdin.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(command);
  });
  process.stdin.on('end', () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
    process.exit(0);
  });
}

if (cluster.isPrimary) lead();
else live();
