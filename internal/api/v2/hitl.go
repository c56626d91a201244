package v2

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
)

var hitlOrder = map[string]string{"ti_id": "", "subject": "", "responded_at": "", "created_at": "", "responded_by_user_id": "",
	"responded_by_user_name": "", "dag_id": "", "run_id": "", "task_display_name": "", "run_after": "", "rendered_map_index": "",
	"task_instance_operator": "", "task_instance_state": ""}

// listHITL lists the questions of a run, or with "~" of all: of an instance that was asked several times, the last.
func (a *API) listHITL(r *request) error {
	if err := r.unserved("operator", "dag_id_pattern", "task_id_pattern", "body_search", "responded_by_user_id", "responded_by_user_name"); err != nil {
		return err
	}
	limit, offset := r.page()
	received, states := r.optBoolean("response_received"), stateFilter(enums(r, "state", taskStates))
	if _, err := r.order("HITLDetail", hitlOrder); err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	ins, err := a.inputs(r)
	if err != nil {
		return err
	}
	v, details := a.view(r.ctx()), []wire.HITLDetail{}
	for _, in := range ins {
		ti, err := a.Store.TaskInstance(r.ctx(), in.Key)
		if err != nil {
			return fmt.Errorf("read task instance %s: %w", in.TaskID, err)
		}
		switch {
		case received != nil && *received != (in.Answer != nil),
			len(states) > 0 && !slices.Contains(states, ti.State),
			r.has("task_id") && r.text("task_id") != in.TaskID,
			r.has("subject_search") && !strings.Contains(in.Form.Subject, r.text("subject_search")):
			continue
		}
		d, err := a.wireHITL(v, in, ti)
		if err != nil {
			return err
		}
		details = append(details, d)
	}
	return r.ok(wire.HITLDetails{HITLDetails: window(details, limit, offset), Total: len(details)})
}

// inputs are the last questions of each instance of the runs a path names.
func (a *API) inputs(r *request) ([]run.Input, error) {
	dagID, runID := r.path("dag_id"), r.path("dag_run_id")
	if dagID != everyDAG {
		if _, err := a.dagInfo(r.ctx(), dagID); err != nil {
			return nil, err
		}
	}
	if runID != everyDAG && dagID != everyDAG {
		if _, err := a.dagRun(r.ctx(), dagID, runID); err != nil {
			return nil, err
		}
		ins, err := a.Store.InputsOfRun(r.ctx(), dagID, runID)
		return lastInputs(ins), err
	}
	ins, err := a.Store.Inputs(r.ctx())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(lastInputs(ins), func(in run.Input) bool {
		return dagID != everyDAG && in.DAGID != dagID || runID != everyDAG && in.RunID != runID
	}), nil
}

func lastInputs(ins []run.Input) []run.Input {
	last := map[run.Key]int{}
	for i, in := range ins {
		last[in.Key] = i
	}
	var out []run.Input
	for i, in := range ins {
		if last[in.Key] == i {
			out = append(out, in)
		}
	}
	return out
}

func (a *API) getHITL(r *request) error {
	return a.oneHITL(r, func(run.Input) bool { return true })
}

func (a *API) getHITLTry(r *request) error {
	try := r.pathInt("try_number")
	return a.oneHITL(r, func(in run.Input) bool { return in.TryNumber == try })
}

// oneHITL answers the last question of an instance that fits.
func (a *API) oneHITL(r *request, fits func(run.Input) bool) error {
	ti, err := a.named(r)
	if err != nil {
		return err
	}
	ins, err := a.Store.InputsOfRun(r.ctx(), ti.DAGID, ti.RunID)
	if err != nil {
		return err
	}
	for _, in := range slices.Backward(ins) {
		if in.Key == ti.Key && fits(in) {
			d, err := a.wireHITL(a.view(r.ctx()), in, ti)
			if err != nil {
				return err
			}
			return r.ok(d)
		}
	}
	return noDetail(ti)
}

func noDetail(ti run.TaskInstance) error {
	return notFound("Human-in-the-loop detail does not exist for Task Instance with id %s", ti.ID)
}

// patchHITL answers a question: anybody's, or as one of those who are asked.
func (a *API) patchHITL(r *request) error {
	n := indexOf(r)
	body, err := r.readBody()
	if err != nil {
		return err
	}
	body.must("chosen_options")
	chosen, params := body.texts("chosen_options"), body.take("params_input")
	if err := body.done(); err != nil {
		return err
	}
	ti, err := a.instance(r, keyOf(r, n))
	if err != nil {
		return err
	}
	who, err := r.user()
	if err != nil {
		return err
	}
	in, err := a.Scheduler.Answer(r.ctx(), r.actor(), scheduler.AnswerRequest{
		Key: ti.Key, Options: chosen, Params: params, By: run.Person{ID: who, Name: who},
	})
	if err != nil {
		return domain(err, "A Human-in-the-loop detail of Task Instance "+ti.ID)
	}
	return r.ok(wire.HITLResponse{RespondedBy: wire.HITLUser(*in.Answer.By), RespondedAt: wire.AtPtr(&in.Answer.At),
		ChosenOptions: in.Answer.Options, ParamsInput: objectOr(in.Answer.Params)})
}

// user is who is asking. There is one token and no sign-in, so whoever holds it says who it is; without a word it is the
// token itself.
func (r *request) user() (string, error) {
	given := r.Header.Values(wire.UserHeader)
	if len(given) == 0 {
		return strings.TrimPrefix(r.actor(), "user:"), nil
	}
	name := strings.TrimSpace(given[0])
	if len(given) > 1 || name == "" || len(name) > longestUser || !utf8.ValidString(name) {
		return "", badRequest("%s is one name of at most %d bytes", wire.UserHeader, longestUser)
	}
	return name, nil
}

const longestUser = 250

func objectOr(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(emptyObject)
	}
	return raw
}

func (a *API) wireHITL(v *view, in run.Input, ti run.TaskInstance) (wire.HITLDetail, error) {
	t, err := v.wireTI(ti)
	if err != nil {
		return wire.HITLDetail{}, err
	}
	f := in.Form
	d := wire.HITLDetail{
		TaskInstance: t, Options: f.Options, Subject: f.Subject, Body: opt(f.Body), Defaults: f.Defaults, Multiple: f.Multiple,
		Params: objectOr(f.Params), AssignedUsers: []wire.HITLUser{}, CreatedAt: wire.AtPtr(&in.CreatedAt), ParamsInput: json.RawMessage(emptyObject),
		Ostro: wire.HITLExtras{TimeoutAt: wire.AtPtr(in.TimeoutAt)},
	}
	for _, p := range f.Assigned {
		d.AssignedUsers = append(d.AssignedUsers, wire.HITLUser(p))
	}
	if x := in.Answer; x != nil {
		d.ResponseReceived, d.RespondedAt, d.ChosenOptions, d.ParamsInput = true, wire.AtPtr(&x.At), x.Options, objectOr(x.Params)
		if x.By != nil {
			by := wire.HITLUser(*x.By)
			d.RespondedByUser = &by
		}
	}
	return d, nil
}
