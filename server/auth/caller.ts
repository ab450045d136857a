/** Who makes a request. */
export interface Caller {
  /** Undefined for somebody who did not say. */
  readonly name: string | undefined;
  readonly roles: readonly string[];
  readonly isServerAdmin: boolean;
  /** How it was proved. */
  readonly via: 'basic' | 'cookie' | undefined;
}

export const NOBODY: Caller = { name: undefined, roles: [], isServerAdmin: false, via: undefined };
