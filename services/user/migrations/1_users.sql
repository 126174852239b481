CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL CONSTRAINT users_email_key UNIQUE CHECK (email = lower(email)),
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('customer', 'admin')),
    password_hash text NOT NULL,
    created timestamptz NOT NULL
);

-- The keys that sign tokens, newest last. All instances share them.
CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    private_key text NOT NULL,
    created timestamptz NOT NULL
);
