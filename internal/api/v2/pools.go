package v2

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// poolUse counts slots by what their task instances do.
type poolUse struct{ running, queued, scheduled, deferred int }

// poolsUse counts over the live runs, which are the ones that can hold slots.
func (a *API) poolsUse(r *request) (map[string]poolUse, error) {
	live, err := a.Store.LiveRuns(r.ctx())
	if err != nil {
		return nil, fmt.Errorf("read live DAG runs: %w", err)
	}
	out, v := map[string]poolUse{}, a.view(r.ctx())
	for _, l := range live {
		for _, ti := range l.Instances {
			d, err := v.describe(l.Run, ti.TaskID)
			if err != nil {
				return nil, err
			}
			u := out[d.pool]
			switch ti.State {
			case run.Running:
				u.running += d.slots
			case run.Queued, run.Restarting:
				u.queued += d.slots
			case run.Scheduled:
				u.scheduled += d.slots
			case run.Deferred:
				u.deferred += d.slots
			default:
				continue
			}
			out[d.pool] = u
		}
	}
	return out, nil
}

func wirePool(p store.Pool, u poolUse) wire.Pool {
	out := wire.Pool{Name: p.Name, Slots: p.Slots, Description: opt(p.Description), IncludeDeferred: p.IncludeDeferred, OccupiedSlots: u.running + u.queued,
		RunningSlots: u.running, QueuedSlots: u.queued, ScheduledSlots: u.scheduled, DeferredSlots: u.deferred, OpenSlots: -1}
	if p.IncludeDeferred {
		out.OccupiedSlots += u.deferred
	}
	if p.Slots >= 0 {
		out.OpenSlots = p.Slots - out.OccupiedSlots
	}
	return out
}

func (a *API) pool(r *request, name string) (store.Pool, error) {
	pools, err := a.Store.Pools(r.ctx())
	if err != nil {
		return store.Pool{}, fmt.Errorf("list pools: %w", err)
	}
	if i := slices.IndexFunc(pools, func(p store.Pool) bool { return p.Name == name }); i >= 0 {
		return pools[i], nil
	}
	return store.Pool{}, notFound("The Pool with name: `%s` was not found", name)
}

func (a *API) answerPool(r *request, p store.Pool, status int) error {
	use, err := a.poolsUse(r)
	if err != nil {
		return err
	}
	answer(r.w, status, wirePool(p, use[p.Name]))
	return nil
}

func (a *API) listPools(r *request) error {
	limit, offset := r.page()
	order, err := r.order("Pool", map[string]string{"id": "name", "pool": "name", "name": "name"})
	if err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	pools, err := a.Store.Pools(r.ctx())
	if err != nil {
		return fmt.Errorf("list pools: %w", err)
	}
	if p := r.text("pool_name_pattern"); p != "" && p != everyDAG {
		pools = slices.DeleteFunc(pools, func(x store.Pool) bool { return !like(p, x.Name) })
	}
	sortBy(pools, order, map[string]func(store.Pool) string{"name": func(p store.Pool) string { return p.Name }})
	use, err := a.poolsUse(r)
	if err != nil {
		return err
	}
	out := wire.Pools{Pools: []wire.Pool{}, Total: len(pools)}
	for _, p := range window(pools, limit, offset) {
		out.Pools = append(out.Pools, wirePool(p, use[p.Name]))
	}
	return r.ok(out)
}

func (a *API) getPool(r *request) error {
	p, err := a.pool(r, r.path("pool_name"))
	if err != nil {
		return err
	}
	return a.answerPool(r, p, http.StatusOK)
}

func poolBody(f *fields) (store.Pool, error) {
	p := store.Pool{Name: f.mustText("name", 256), Description: text(f.text("description", 0)), IncludeDeferred: f.boolean("include_deferred", false)}
	if f.must("slots") {
		if n := f.integer("slots", -1); n != nil {
			p.Slots = *n
		} else if len(f.r.faults) == 0 {
			f.wrong("slots", "int_type", "Input should be a valid integer", f.members["slots"])
		}
	}
	if f.take("team_name") != nil {
		return p, noTeams()
	}
	return p, f.done()
}

func (a *API) createPool(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	p, err := poolBody(body)
	if err != nil {
		return err
	}
	if _, err := a.pool(r, p.Name); err == nil {
		return duplicate("a pool named %s exists already", p.Name)
	}
	if err := a.Scheduler.PutPool(r.ctx(), r.actor(), p); err != nil {
		return domain(err, "The Pool "+p.Name)
	}
	return a.answerPool(r, p, http.StatusCreated)
}

// patchPool changes slots, description or include_deferred. As in Airflow the body names the pool and includes
// include_deferred even where the mask leaves them alone, and the default pool keeps its name.
func (a *API) patchPool(r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	name, slots, description := body.text("pool", 256), body.integer("slots", -1), body.text("description", 0)
	deferred, withDescription := body.boolean("include_deferred", false), body.given("description")
	withDeferred := body.given("include_deferred")
	if body.take("team_name") != nil {
		return noTeams()
	}
	if r.has("update_mask") {
		body.must("pool")
		body.must("include_deferred")
	}
	if err := body.done(); err != nil {
		return err
	}
	if name != nil && *name != r.path("pool_name") {
		return badRequest("Invalid body, pool name from request body doesn't match uri parameter")
	}
	p, err := a.pool(r, r.path("pool_name"))
	if err != nil {
		return err
	}
	m := r.mask()
	if err := m.only("Pool", "pool", "slots", "description", "include_deferred"); err != nil {
		return err
	}
	if slots != nil && m.covers("slots") {
		p.Slots = *slots
	}
	if withDescription && m.covers("description") {
		p.Description = text(description)
	}
	if withDeferred && m.covers("include_deferred") {
		p.IncludeDeferred = deferred
	}
	if err := a.Scheduler.PutPool(r.ctx(), r.actor(), p); err != nil {
		return domain(err, "The Pool "+p.Name)
	}
	return a.answerPool(r, p, http.StatusOK)
}

func (a *API) deletePool(r *request) error {
	if err := a.dropPool(r, r.path("pool_name")); err != nil {
		return err
	}
	return r.nothing()
}

func (a *API) dropPool(r *request, name string) error {
	if name == store.DefaultPool {
		return badRequest("Default Pool can't be deleted")
	}
	if _, err := a.pool(r, name); err != nil {
		return err
	}
	return domain(a.Scheduler.DeletePool(r.ctx(), r.actor(), name), "The Pool "+name)
}

func (a *API) bulkPools(r *request) error {
	put := func(f *fields) ([]string, error) {
		p, err := poolBody(f)
		if err != nil {
			return nil, err
		}
		return nil, domain(a.Scheduler.PutPool(r.ctx(), r.actor(), p), "The Pool "+p.Name)
	}
	return a.bulk(r, bulkKind{
		name: "pool", keyField: "name",
		exists: func(name string) (bool, error) {
			_, err := a.pool(r, name)
			var gone *refusal
			if errors.As(err, &gone) {
				return false, nil
			}
			return err == nil, err
		},
		create: put,
		update: func(f *fields, m mask) ([]string, error) {
			if m != nil {
				return nil, &refusal{status: http.StatusNotImplemented, detail: "update_mask is not served for pools in bulk"}
			}
			return put(f)
		},
		drop: func(name string) error { return a.dropPool(r, name) },
	})
}
