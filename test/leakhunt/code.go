package leakhunt

// code is what the databases of tenants with code have: what sets something, sometimes.
var code = []string{
	`CREATE FUNCTION public.maybe(v text, really bool) RETURNS text LANGUAGE plpgsql AS $$
	 BEGIN IF really THEN PERFORM set_config('app.maybe', v, false); END IF; RETURN v; END $$`,
	`CREATE FUNCTION public.identify(r text, really bool) RETURNS text LANGUAGE plpgsql AS $$
	 BEGIN IF really THEN PERFORM set_config('role', r, false); END IF; RETURN r; END $$`,
	`CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
	 BEGIN IF NEW.v LIKE 'note%' THEN PERFORM pg_catalog.set_config('app.trigger', NEW.v, false); END IF; RETURN NEW; END $$`,
	`CREATE PROCEDURE public.enter(v text) LANGUAGE plpgsql AS $$
	 BEGIN PERFORM set_config('app.entered', v, false); COMMIT; PERFORM set_config('my.flag', v, false); END $$`,
	`CREATE FUNCTION public.lock_some(k bigint, really bool) RETURNS bigint LANGUAGE plpgsql AS $$
	 BEGIN IF really THEN PERFORM pg_advisory_lock(k); END IF; RETURN k; END $$`,
}

// dynamicCode makes up what it does.
var dynamicCode = []string{
	`CREATE FUNCTION public.set_any(n text, v text) RETURNS text LANGUAGE plpgsql AS $$
	 BEGIN RETURN set_config(n, v, false); END $$`,
	`CREATE FUNCTION public.become(r text, really bool) RETURNS text LANGUAGE plpgsql AS $$
	 BEGIN IF really THEN EXECUTE format('SET ROLE %I', r); END IF; RETURN r; END $$`,
}

// callCode calls it.
func (c *client) callCode() error {
	name, value := c.anySetting()
	really := pick(c, "true", "false", "false")
	role := c.tn.name + pick(c, "_reader", "_writer")
	if c.tn.dynamic && c.rng.IntN(3) == 0 {
		return c.tx(pick(c,
			[]string{"SELECT public.set_any('" + name + "', '" + value + "')"},
			[]string{"SELECT public.become('" + role + "', " + really + ")"},
		)...)
	}
	return c.tx(pick(c,
		[]string{"SELECT public.maybe('" + personal(c) + "', " + really + ")"},
		[]string{"SELECT public.maybe('" + personal(c) + "', " + really + ")"},
		[]string{"BEGIN", "SELECT public.maybe('" + personal(c) + "', " + really + ")", pick(c, "COMMIT", "ROLLBACK", "SELECT 1/0"), "ROLLBACK"},
		[]string{"SELECT public.identify('" + role + "', " + really + ")"},
		[]string{"RESET ROLE", "INSERT INTO " + c.table() + " (v) VALUES ('" + pick(c, "note ", "plain ") + personal(c) + "')"},
		[]string{"RESET ROLE", "BEGIN", "INSERT INTO " + c.table() + " (v) VALUES ('note " + personal(c) + "')", pick(c, "COMMIT", "ROLLBACK")},
		[]string{"CALL public.enter('" + personal(c) + "')"},
		[]string{"RESET app.trigger", "RESET app.maybe"},
	)...)
}
