'use strict';
// What is measured, and against which goal. A figure's round() gives one sample of one contender.

const fs = require('node:fs');
const { setTimeout: pause } = require('node:timers/promises');
const { Server, load } = require('./contender.cjs');

const failed = (sample) => sample.refused + sample.reset + sample.cut + sample.status + sample.hung + sample.stalled;
const hung = (sample) => sample.hung + sample.stalled + sample.unclosed;
const perSecond = (sample) => sample.answered / sample.seconds;
const cpuMicros = (sample) => sample.cpu / sample.answered * 1e6;

// One life of a server under one load. What the server counted is added to what the load saw.
async function serve(bench, contender, workers, options, atWindow, afterLoad) {
  const server = await Server.start(contender, workers);
  try {
    const pids = [server.primary, ...server.workers].join();
    const words = options.cpu ? { ...options.load, pids } : options.load;
    const sample = await load(bench.program, server, words, atWindow && (() => atWindow(server)));
    await afterLoad?.(server);
    Object.assign(sample, await server.stop());
    if (sample.crashed) throw new Error(`${contender.name}: ${sample.crashed} workers ended by themselves`);
    // A fallback to Node's own way would be measured as if it were ours.
    const served = sample.opened - sample.refused - sample.hung;
    if (contender.engine && !(sample.accepted >= served)) {
      throw new Error(`of ${served} connections ${sample.accepted} came through the engine`);
    }
    return sample;
  } catch (error) {
    await server.abandon();
    throw error;
  }
}

const throughput = (options) => (bench, contender) => serve(bench, contender, 2, { load: options, cpu: true });

async function primaryBlocked(bench, contender) {
  return serve(bench, contender, 2, { load: { connections: 16, seconds: 2.2 } },
    (server) => server.tell('block 1500'),
    (server) => server.hear('blocked'));
}

const storm = (options) => (bench, contender) => serve(bench, contender, 3, { load: { ...options, seconds: 4 } },
  (server) => server.tell('storm 250 4000'));

const rolling = (options) => (bench, contender) => serve(bench, contender, 2, { load: { ...options, seconds: 3 } },
  (server) => server.tell('roll 100'),
  (server) => server.tell('rest'));

const memory = (options) => async (bench, contender) => {
  const server = await Server.start(contender, 2);
  try {
    if (options) await load(bench.program, server, options);
    await pause(1000);
    const sample = { Rss: 0, Pss: 0, Private_Dirty: 0 };
    for (const pid of server.workers) {
      const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      for (const name of Object.keys(sample)) {
        const [, kilobytes] = text.match(new RegExp(`^${name}: *(\\d+) kB`, 'm'));
        sample[name] += Number(kilobytes) / server.workers.length;
      }
    }
    await server.stop();
    return sample;
  } catch (error) {
    await server.abandon();
    throw error;
  }
};

// how: 'more' and 'less' compare within each round (more: ours / stock, less: stock / ours), 'difference' likewise;
// 'largest' is judged by the worst round of ours, 'total' by the sum over all rounds, of ours or against stock's.
const rate = (atLeast) => ({ label: 'requests per second', of: perSecond, how: 'more', goal: atLeast, digits: 0 });
const cpu = (goal, label) => ({ label, of: cpuMicros, how: 'less', goal, digits: 1 });
const total = (label, of, goal) => ({ label, of, how: 'total', goal, digits: 0 });

const stormRows = [
  { ...total('kills', (sample) => sample.kills), atLeast: 100 },
  total('requests', (sample) => sample.begun),
  total('failed requests', failed, 'stock'),
  total('of them hung', hung, 0),
  total('of them refused', (sample) => sample.refused),
];
const rollingRows = [
  { ...total('workers disconnected', (sample) => sample.rolled), atLeast: 20 },
  total('requests', (sample) => sample.begun),
  total('failed requests', failed, 0),
];
// RSS counts pages of the node binary that all processes share and the system can drop; what a worker costs is private dirty memory.
const memoryRows = [
  { label: 'private dirty memory, kB', of: (sample) => sample.Private_Dirty, how: 'difference', goal: 1024, digits: 0 },
  { label: 'RSS, kB', of: (sample) => sample.Rss, how: 'difference', goal: null, digits: 0 },
  { label: 'PSS, kB', of: (sample) => sample.Pss, how: 'difference', goal: null, digits: 0 },
];
const again = total('asked again on a new connection', (sample) => sample.again);

module.exports = {
  close: {
    title: 'HTTP, Connection: close, 2 workers, 64 open',
    round: throughput({ connections: 64 }),
    rows: [cpu(1.8, 'CPU of all processes per connection, us'), rate(1.0)],
  },
  burn: {
    title: 'the same, 1 % of the handlers compute for 30 ms',
    round: throughput({ connections: 64, every: 100, path: '/burn', seconds: 3 }),
    rows: [rate(1.25)],
  },
  wait: {
    title: 'the same, 1 % of the handlers block for 30 ms without computing',
    round: throughput({ connections: 64, every: 100, path: '/wait', seconds: 3 }),
    rows: [rate(1.25)],
  },
  blocked: {
    title: "the primary's JavaScript computes for 1.5 s, 2 workers, 16 open",
    round: primaryBlocked,
    rows: [{ label: 'largest latency, ms', of: (sample) => sample.max, how: 'largest', goal: 50, digits: 1 }],
  },
  storm: {
    title: 'SIGKILL of one of 3 workers every 250 ms, 64 open',
    round: storm({ connections: 64 }),
    rows: stormRows,
  },
  trickle: {
    title: 'SIGKILL of one of 3 workers every 250 ms, 300 connections per second',
    round: storm({ connections: 1024, rate: 300 }),
    rows: stormRows,
  },
  roll: {
    title: 'workers are replaced and disconnected in turn, Connection: close, 64 open',
    round: rolling({ connections: 64 }),
    rows: rollingRows,
  },
  rollkeep: {
    title: 'workers are replaced and disconnected in turn, keep-alive of 100 requests, 64 open',
    round: rolling({ connections: 64, requests: 100 }),
    rows: [...rollingRows, again],
  },
  keep: {
    title: 'keep-alive without end, 2 workers, 64 open',
    round: throughput({ connections: 64, requests: 0 }),
    rows: [rate(0.98), cpu(null, 'CPU of all processes per request, us')],
  },
  idle: {
    title: 'an idle worker, one of 2, before its first connection',
    round: memory(),
    rows: memoryRows,
  },
  // A program of a few lines is too small for Node to compile anything or to collect garbage before its first request.
  // What that brings into memory once, in whatever code comes first, is in both contenders here.
  served: {
    title: 'an idle worker, one of 2, that has served 1,000 connections',
    round: memory({ connections: 256, rate: 1000, warm: 0 }),
    rows: memoryRows,
  },
};
