'use strict';

// Answers what workers ask when they listen, in Node's own messages but from the engine. A query that was answered here is
// renamed, so that Node's own listener, which comes next, passes over it.

const { errno: ERRNO } = require('node:os').constants;

const { addressOf, refusalOf } = require('../address.cjs');
const { Relay } = require('./relay.cjs');

const ANSWERED = 'cluster-rs';

// TLS ticket keys and the like, which the first worker of an address gives for all of them.
const data = new Map();

function nothing() {}

function reply(worker, message) {
  // An error means that the worker is gone, which its process tells.
  if (worker.process.connected) worker.process.send({ cmd: 'NODE_CLUSTER', ...message }, undefined, undefined, nothing);
}

// A share that the worker itself takes; it closes it on its own channel.
function grant(engine, seat, { address, index, backlog, flags }) {
  return engine.grant(seat.id, address, index, backlog, flags);
}

// A share that is held here, for a worker that knows only Node's way.
function relay(engine, seat, key, { address, index, backlog, flags }) {
  const [answer, listener] = engine.relay(seat.id, address, index, backlog, flags);
  if (listener) seat.shares.set(key, new Relay(engine, seat, key, answer, listener));
  return answer;
}

function query(engine, seat, message, wantsLoad) {
  const { worker } = seat;
  const key = `${message.address}:${message.port}:${message.addressType}:${message.fd}:${message.index}`;
  const wanted = addressOf(message);
  let answer = { errno: -ERRNO.EINVAL };
  if (wanted) answer = message.crs === 1 ? grant(engine, seat, wanted) : relay(engine, seat, key, wanted);
  if (answer.errno) {
    const errno = refusalOf(wanted, answer.errno);
    // The reason is for the command line, which hears what is said to its workers.
    reply(worker, { errno, key, ack: message.seq, data: null, ...(answer.reason && { crsWhy: answer.reason }) });
    return;
  }
  const shared = `${wanted.address}#${wanted.index}`;
  if (answer.isNew) data.delete(shared);
  if (message.data && !data.has(shared)) data.set(shared, message.data);
  reply(worker, {
    errno: null,
    key,
    ack: message.seq,
    data: data.get(shared) ?? message.data,
    ...(answer.sockname && { sockname: answer.sockname }),
    ...(message.crs === 1 && { crs: answer.listener }),
    ...(wantsLoad && { crsLoad: 1 }),
  });
}

/** From now on the engine answers this worker's queries. `wantsLoad`: it shall tell its load. */
function answerQueries(engine, seat, wantsLoad) {
  const { worker } = seat;
  worker.process.prependListener('internalMessage', (message) => {
    if (message?.cmd !== 'NODE_CLUSTER') return;
    const { act, ack } = message;
    if (act === 'queryServer') {
      seat.asksHere = true;
      // Datagrams are Node's own matter.
      if (message.addressType === 'udp4' || message.addressType === 'udp6') return;
      message.act = ANSWERED;
      // One that is leaving gets no answer, as in Node.
      if (!worker.exitedAfterDisconnect) query(engine, seat, message, wantsLoad);
    } else if (act === 'close') {
      seat.shares.get(message.key)?.close();
    } else if (typeof ack === 'string') {
      for (const share of seat.shares.values()) share.acknowledged(ack, message.accepted === true);
    }
  });
}

module.exports = { answerQueries };
