/** How the kinds of feeds are written, as CouchDB does. */
import type { ChangesQuery, FeedKind } from './changes-query.js';

export interface FeedFormat {
  readonly contentType: string;
  readonly head: string;
  /** Before the first row, and before each other one. */
  readonly first: string;
  readonly next: string;
  readonly heartbeat: string;
  /** After each row; `seq` is its token. */
  rowEnd(seq: string): string;
  end(lastSeq: string, pending: number): string;
}

const JSON_TYPE = 'application/json';

const LIST: FeedFormat = {
  contentType: JSON_TYPE,
  head: '{"results":[\n',
  first: '',
  next: ',\n',
  heartbeat: '\n',
  rowEnd: () => '',
  end: (lastSeq, pending) => `\n],\n"last_seq":"${lastSeq}","pending":${pending}}\n`,
};

const LINES: FeedFormat = {
  contentType: JSON_TYPE,
  head: '',
  first: '',
  next: '',
  heartbeat: '\n',
  rowEnd: () => '\n',
  end: (lastSeq, pending) => `{"last_seq":"${lastSeq}","pending":${pending}}\n`,
};

const EVENTS: FeedFormat = {
  contentType: 'text/event-stream',
  head: '',
  first: 'data: ',
  next: 'data: ',
  heartbeat: 'event: heartbeat\ndata: \n\n',
  rowEnd: (seq) => `\nid: ${seq}\n\n`,
  // An EventSource connects again by itself, and says what it had last.
  end: () => '',
};

/** Of the part of one node: rows, and lines that say how far it has read, and how it ended. */
const PARTS: FeedFormat = {
  ...LINES,
  end: (lastSeq, pending) => `${PART_END}${lastSeq} ${pending}\n`,
};

/** What begins lines of a part that are no rows. */
export const PART_MARK = '~';
export const PART_END = '!';

export function feedFormat({ feed, isPart }: Pick<ChangesQuery, 'feed' | 'isPart'>): FeedFormat {
  return isPart ? PARTS : FEED_FORMATS[feed];
}

const FEED_FORMATS: Readonly<Record<FeedKind, FeedFormat>> = {
  normal: LIST,
  longpoll: LIST,
  continuous: LINES,
  eventsource: EVENTS,
};
