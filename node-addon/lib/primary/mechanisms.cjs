'use strict';

// The setting `mechanism`: how connections reach the workers. Node keeps it among its own settings; only the engine follows it.

const NAMES = ['auto', 'passed', 'kernel'];

function checked(name = 'auto') {
  if (NAMES.includes(name)) return name;
  const names = NAMES.map((one) => `'${one}'`).join(', ');
  const received = typeof name === 'string' ? `'${name}'` : String(name);
  const error = new TypeError(`The property 'settings.mechanism' must be one of: ${names}. Received ${received}`);
  throw Object.assign(error, { code: 'ERR_INVALID_ARG_VALUE' });
}

/** Gives a function that says which mechanism the settings ask for, and throws where they name none. */
function addMechanism(cluster) {
  const { setupPrimary } = cluster;

  cluster.setupPrimary = function setupPrimaryChecked(...args) {
    checked(args[0]?.mechanism);
    return Reflect.apply(setupPrimary, this, args);
  };
  cluster.setupMaster = cluster.setupPrimary;

  return () => checked(cluster.settings.mechanism);
}

module.exports = { addMechanism };
