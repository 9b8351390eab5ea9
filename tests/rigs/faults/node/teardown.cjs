'use strict';

// Environments of Node that end in the middle of accepting: worker_threads, each with an engine, a member of it and a server
// on a share of an address, are made and terminated while clients connect. Usage: teardown.cjs COUNT [MECHANISM] [--result]
//
// Prints { threads, answers, before, after }: descriptors before the first and after the last. With --result it is a figure for
// the report, and a descriptor more is a failure. A signal speaks for itself.

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const PACKAGE = path.join(__dirname, '..', '..', '..', '..', 'node-addon', 'lib');
const ROUND_ROBIN = 2;
// Threads that live at the same time, and clients of each.
const AT_ONCE = 3;
const CLIENTS = 4;
const DEADLINE = 10_000;

function thread() {
  const native = require(`${PACKAGE}/addon.cjs`).load();
  const { serve } = require(`${PACKAGE}/worker/share.cjs`);
  const engine = new native.Engine(ROUND_ROBIN, workerData.mechanism, { most: 0 }, () => {});
  const place = engine.enroll();
  engine.started(place.id, process.pid);
  const member = native.Member.adopt(place.fd, place.id, place.slot);
  const { listener: number, sockname } = engine.grant(place.id, { address: '127.0.0.1:0', index: 1, backlog: 64, flags: 0 });
  const share = member.take(number);
  const server = net.createServer((socket) => {
    // One that does not end by itself is in the middle of something, too.
    if (share.isTcp && socket.remotePort % 2) socket.on('error', () => {}).end('served');
    else socket.on('error', () => {}).write('served');
  });
  const onconnection = (status, handle) => server.emit('connection', new net.Socket({ handle }));
  const standIn = { close() {}, ref() {}, unref() {}, onconnection };
  const { handle } = serve(share, standIn, server, { closed() {} });
  // Where the mechanism is `kernel` it is a real one.
  if (handle !== standIn) server.listen(handle);
  // Or the loop has nothing more to do.
  setInterval(() => {}, 1000);
  parentPort.postMessage(sockname.port);
}

const descriptors = () => fs.readdirSync('/proc/self/fd').length;

// Clients that come again and again, until the thread is no more.
function knock(port, state) {
  if (state.ended) return;
  const socket = net.connect(port, '127.0.0.1');
  state.sockets.add(socket);
  socket.once('data', () => {
    state.answers += 1;
    setImmediate(() => socket.destroy());
  });
  socket.on('error', () => {}).once('close', () => {
    state.sockets.delete(socket);
    setImmediate(knock, port, state);
  });
}

function one(number, mechanism) {
  return new Promise((resolve, reject) => {
    const state = { answers: 0, ended: false, sockets: new Set() };
    const worker = new Worker(__filename, { workerData: { mechanism } });
    worker.on('error', reject);
    // Some are ended before they have come to listen, the others while they accept.
    if (number % 5 === 0) setTimeout(() => worker.terminate(), number % 30);
    worker.once('message', (port) => {
      for (let i = 0; i < CLIENTS; i++) knock(port, state);
      const wanted = number % 17;
      const timer = setInterval(() => {
        if (state.answers < wanted) return;
        clearInterval(timer);
        worker.terminate();
      }, 1);
      worker.once('exit', () => clearInterval(timer));
    });
    worker.once('exit', () => {
      state.ended = true;
      state.sockets.forEach((socket) => socket.destroy());
      resolve(state.answers);
    });
  });
}

async function main(count, mechanism, asResult) {
  // What is made once and stays.
  await one(1, mechanism);
  const before = descriptors();
  let number = 0;
  let answers = 0;
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (number < count) {
      const answered = await one(++number, mechanism);
      answers += answered;
    }
  }));
  const late = performance.now() + DEADLINE;
  while (descriptors() > before && performance.now() < late) await new Promise((resolve) => setTimeout(resolve, 10));
  const after = descriptors();
  if (!asResult) {
    console.log(JSON.stringify({ threads: number, answers, before, after }));
    return;
  }
  const { grouped, result } = require('./result.cjs');
  const row = `${grouped(number)} worker_threads terminated while they accept: descriptors left, signals`;
  const isKept = result('teardown-node', row, `cluster-rs ${mechanism}`, `${after - before}, 0`, '0, 0', after <= before);
  process.exitCode = isKept ? 0 : 1;
}

const [, , count, mechanism = 'auto', option] = process.argv;
if (isMainThread) main(Number(count), mechanism, option === '--result');
else thread();
