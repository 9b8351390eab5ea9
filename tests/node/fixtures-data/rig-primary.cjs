'use strict';

// The primary of a rig: does what the test asks over its channel and reports the cluster's events.

const fs = require('node:fs');
const path = require('node:path');
const { connectionsAmong, descriptors } = require('../support/processes.cjs');
const compile = require('./code.cjs');
const cluster = require(process.env.CLUSTER_MODULE);

let asked = 0;
let workerSetup = {};
let before = null;
const waitingForWorker = new Map();

const report = (event, worker, more) => {
  if (process.connected) process.send({ event, id: worker.id, pid: worker.process.pid, ...more }, () => {});
};

// The engine's descriptor of this process itself is made once and stays.
function isOwn(fd) {
  try {
    return new RegExp(`^Pid:\\s*${process.pid}$`, 'm').test(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  } catch {
    return false;
  }
}

function openConnections() {
  const open = Object.entries(descriptors()).filter(([fd, target]) => !(target.includes('pidfd') && isOwn(fd)));
  return connectionsAmong(Object.fromEntries(open));
}

cluster.on('fork', (worker) => report('fork', worker));
cluster.on('online', (worker) => report('online', worker));
cluster.on('listening', (worker, address) => report('listening', worker, { address }));
cluster.on('disconnect', (worker) => report('disconnect', worker));
cluster.on('exit', (worker, code, signal) => report('exit', worker, { code, signal }));
cluster.on('message', (worker, message) => {
  if (!message) return;
  if (message.tell !== undefined) report('tell', worker, { value: message.tell });
  const waiting = waitingForWorker.get(message.rigAnswer);
  if (!waiting) return;
  waitingForWorker.delete(message.rigAnswer);
  if (message.error) waiting.reject(new Error(message.error));
  else waiting.resolve(message.value);
});

const until = async (condition, milliseconds) => {
  const end = Date.now() + milliseconds;
  while (!condition() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  return condition();
};

const operations = {
  setup({ serve, options, settings }) {
    globalThis.workerSetup = workerSetup = { RIG_SERVE: serve, RIG_OPTIONS: JSON.stringify(options) };
    cluster.setupPrimary({ exec: path.join(__dirname, 'rig-worker.cjs'), args: [], ...settings });
  },

  fork({ count, env }) {
    before ??= openConnections();
    const ids = [];
    for (let i = 0; i < count; i++) ids.push(cluster.fork({ ...workerSetup, ...env }).id);
    return ids;
  },

  primary({ source, args }) {
    return compile(source)(cluster, ...args);
  },

  worker({ id, source, args }) {
    const seq = ++asked;
    const promise = new Promise((resolve, reject) => waitingForWorker.set(seq, { resolve, reject }));
    cluster.workers[id].send({ rigAsk: seq, source, args });
    return promise;
  },

  async finish() {
    const workers = Object.values(cluster.workers);
    for (const worker of workers) {
      worker.process.kill('SIGCONT');
      // One that was killed a moment ago is an error in Node's own module.
      if (process.env.CLUSTER_MODULE === 'node:cluster') worker.on('error', () => {});
      if (worker.isConnected()) worker.disconnect();
    }
    const gone = () => workers.every((worker) => worker.isDead());
    let code = '';
    if (!await until(gone, 10_000)) {
      code = 'a worker that was disconnected did not end';
      for (const worker of workers) worker.process.kill('SIGKILL');
      await until(gone, 5_000);
    }
    let leaked = [];
    await until(() => {
      leaked = openConnections().filter((entry) => !before.includes(entry));
      return leaked.length === 0;
    }, 10_000);
    return { leaked, code };
  },
};

process.on('message', async (message) => {
  let answer;
  try {
    answer = { answer: message.seq, value: await operations[message.operation](message) };
  } catch (error) {
    answer = { answer: message.seq, error: String(error && error.stack || error) };
  }
  if (process.connected) process.send(answer, () => {});
});
