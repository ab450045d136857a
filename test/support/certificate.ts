/** A certificate for 127.0.0.1 that is its own authority, put together as RFC 5280 says: no command has to be there for it. */
import { createSign, generateKeyPairSync } from 'node:crypto';

const ECDSA_WITH_SHA256 = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
const COMMON_NAME = Buffer.from('550403', 'hex');
const SUBJECT_ALT_NAME = Buffer.from('551d11', 'hex');
const BASIC_CONSTRAINTS = Buffer.from('551d13', 'hex');
const TRUE = der(0x01, Buffer.from([0xff]));

export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

export function newCertificate(): TestCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = der(
    0x30,
    der(0x31, der(0x30, der(0x06, COMMON_NAME), der(0x0c, Buffer.from('divan')))),
  );
  const extension = (id: Buffer, ...value: Buffer[]) => der(0x30, der(0x06, id), ...value);
  const extensions = der(
    0x30,
    extension(BASIC_CONSTRAINTS, TRUE, der(0x04, der(0x30, TRUE))),
    extension(SUBJECT_ALT_NAME, der(0x04, der(0x30, der(0x87, Buffer.from([127, 0, 0, 1]))))),
  );
  const toSign = der(
    0x30,
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ECDSA_WITH_SHA256,
    name,
    der(0x30, timeOf(Date.now() - 86_400_000), timeOf(Date.now() + 86_400_000)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, extensions),
  );
  const signature = createSign('sha256').update(toSign).sign(privateKey);
  const bits = der(0x03, Buffer.from([0]), signature);
  const whole = der(0x30, toSign, ECDSA_WITH_SHA256, bits).toString('base64');
  const lines = whole.match(/.{1,64}/g) ?? [];
  return {
    cert: ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n'),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function timeOf(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');
  return der(0x18, Buffer.from(digits));
}

/** A value with its tag and length. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 128) return Buffer.concat([Buffer.from([tag, length]), content]);
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 255]), content]);
}
