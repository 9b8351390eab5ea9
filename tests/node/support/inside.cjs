'use strict';
// What runs inside the processes of a scenario: scenario.cjs writes a script that calls enter().

const fs = require('node:fs');
const path = require('node:path');
const { connectionsAmong, descriptors } = require('./processes.cjs');

const DEADLINE = 10_000;
const directory = process.env.SCENARIO;
const PIPE_BUF = 4096;
let number = 0;

// One write, so that the reports of several processes stand whole and in the order in which they were made.
function report(name, ...values) {
  let line = `${JSON.stringify({ name, pid: process.pid, values })}\n`;
  if (Buffer.byteLength(line) > PIPE_BUF) {
    const file = `report-${process.pid}-${++number}.json`;
    fs.writeFileSync(path.join(directory, file), JSON.stringify(values));
    line = `${JSON.stringify({ name, pid: process.pid, file })}\n`;
  }
  const fd = fs.openSync(path.join(directory, 'reports'), fs.constants.O_WRONLY | fs.constants.O_APPEND);
  fs.writeSync(fd, line);
  fs.closeSync(fd);
}

// What an error says to a program.
function plain(error) {
  const { name, code, errno, syscall, address, port, message } = error;
  return { name, code, errno, syscall, address, port, message };
}

const waiting = new Map();
const early = new Map();

// In a primary that was started with `commands: true`: the value of the test's next tell(name, value).
function told(name) {
  if (early.get(name)?.length > 0) return Promise.resolve(early.get(name).shift());
  return new Promise((resolve) => waiting.set(name, resolve));
}

function listenForCommands() {
  process.on('message', ({ tell, value }) => {
    if (tell === '#end') return process.disconnect();
    const resolve = waiting.get(tell);
    if (resolve === undefined) return early.set(tell, [...(early.get(tell) ?? []), value]);
    waiting.delete(tell);
    return resolve(value);
  });
}

// What the primary holds at its end and did not hold at its start. A connection that is about to close gets its time.
function watchDescriptors(cluster) {
  const before = connectionsAmong(descriptors());
  const left = () => {
    const after = connectionsAmong(descriptors());
    for (const target of before) {
      if (after.includes(target)) after.splice(after.indexOf(target), 1);
    }
    return after;
  };
  const late = Date.now() + DEADLINE;
  process.on('beforeExit', () => {
    if (left().length > 0 && Date.now() < late) setTimeout(() => {}, 20);
  });
  process.on('exit', () => {
    report('#exit', { workers: Object.keys(cluster.workers).length, descriptors: left() });
  });
}

function enter({ module: name, data, commands, primary, worker }) {
  const isWorker = process.env.NODE_UNIQUE_ID !== undefined;
  const before = Object.keys(descriptors()).length;
  const cluster = require(name);
  if (cluster.isPrimary && commands) listenForCommands();
  if (cluster.isPrimary) watchDescriptors(cluster);
  const context = {
    cluster, report, plain, told, data, directory, isWorker, before,
    ...require('./clients.cjs'), ...require('./processes.cjs'),
  };
  return cluster.isPrimary ? primary(context) : worker?.(context);
}

module.exports = { enter, plain, report };
