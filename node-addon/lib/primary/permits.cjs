'use strict';

// The settings `listen` and `listenMax`: what workers may listen on. Node keeps them among its own settings; the engine judges.

const { errno: ERRNO } = require('node:os').constants;

const { addressOf } = require('../address.cjs');
const { load } = require('../load.cjs');

const ANSWERED = 'cluster-rs';
const PORT_MAX = 65535;
const COUNT_MAX = 2 ** 32 - 1;

function invalid(name, why) {
  const error = new TypeError(`The property 'settings.${name}' is invalid: ${why}`);
  return Object.assign(error, { code: 'ERR_INVALID_ARG_VALUE' });
}

// A rule in the engine's words.
function textOf(rule) {
  if (typeof rule === 'string') return rule;
  if (Number.isInteger(rule) && rule >= 0 && rule <= PORT_MAX) return `:${rule}`;
  throw invalid('listen', 'each rule must be a text such as \'127.0.0.1:80\', or a port');
}

/** What settings say, in the engine's words: { rules, most }. Throws where they say nothing that can be understood. */
function allowOf({ listen, listenMax = 0 }) {
  if (!Number.isInteger(listenMax) || listenMax < 0 || listenMax > COUNT_MAX) {
    throw invalid('listenMax', 'it must be an integer from 0');
  }
  if (listen === undefined) return { most: listenMax };
  if (!Array.isArray(listen)) throw invalid('listen', 'it must be an array');
  const rules = listen.map(textOf);
  const fault = load().faultOfRules(rules);
  if (fault) throw invalid('listen', fault);
  return { rules, most: listenMax };
}

/** Gives a function that says what workers may listen on; setupPrimary throws where its settings cannot be understood. */
function addPermits(cluster) {
  const { setupPrimary } = cluster;

  cluster.setupPrimary = function setupPrimaryAllowed(...args) {
    allowOf(Object(args[0]));
    return Reflect.apply(setupPrimary, this, args);
  };
  cluster.setupMaster = cluster.setupPrimary;

  return () => allowOf(cluster.settings);
}

// The address of a query that Node itself answers, in the engine's words; undefined for what cannot be one.
function wantedOf(message) {
  const { addressType } = message;
  if (addressType !== 'udp4' && addressType !== 'udp6') return addressOf(message);
  // Of a datagram socket without a port Node asks for port 0.
  const { address, fd, index } = addressOf({ ...message, port: message.port ?? 0 }) ?? {};
  if (address === undefined) return undefined;
  return { address: address.startsWith('fd:') ? `fd:${fd}` : `udp:${address}`, index };
}

/**
 * From now on what Node itself opens for this worker is judged, too: datagram sockets and, if `isAll`, everything. `allow()` says
 * what is declared.
 */
function permitQueries(engine, { worker, id }, allow, isAll) {
  worker.process.prependListener('internalMessage', (message) => {
    if (message?.cmd !== 'NODE_CLUSTER' || message.act !== 'queryServer') return;
    const { address, port, addressType, fd, index, seq } = message;
    if (!isAll && addressType !== 'udp4' && addressType !== 'udp6') return;
    const wanted = wantedOf(message);
    const unheardOf = allow().rules ? -ERRNO.EACCES : 0;
    const errno = wanted ? engine.checkListen(id, wanted.address, wanted.index) : unheardOf;
    if (errno === 0) return;
    message.act = ANSWERED;
    const key = `${address}:${port}:${addressType}:${fd}:${index}`;
    worker.process.send({ cmd: 'NODE_CLUSTER', errno, key, ack: seq, data: null });
  });
}

module.exports = { addPermits, permitQueries };
