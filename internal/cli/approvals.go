package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func (c *command) approvals() *cobra.Command {
	return c.parent("approvals", "List and answer what tasks ask people", "  ostro approvals list\n  ostro approvals answer training manual__1 approve --option Approve",
		c.approvalsList(), c.approvalsAnswer())
}

func (c *command) approvalsList() *cobra.Command {
	all := false
	cmd := &cobra.Command{Use: "list [DAG_ID [RUN_ID]]", Short: "List the questions that wait for an answer", Args: args(0, 2),
		Example: "  ostro approvals list\n  ostro approvals list training --all",
		RunE: func(cmd *cobra.Command, a []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			dagID, runID := "~", "~"
			if len(a) > 0 {
				dagID = a[0]
			}
			if len(a) > 1 {
				runID = a[1]
			}
			query := url.Values{}
			if !all {
				query = url.Values{"response_received": {"false"}, "state": {"awaiting_input"}}
			}
			found, err := cl.Questions(cmd.Context(), dagID, runID, query)
			if err != nil {
				return unknownDAG(cmd.Context(), cl, dagID, err)
			}
			return c.show(found, func() { c.printQuestions(found, all) })
		}}
	cmd.Flags().BoolVar(&all, "all", false, "also those that have been answered or do not wait any more")
	return cmd
}

func (c *command) printQuestions(found []wire.HITLDetail, all bool) {
	if len(found) == 0 {
		what := "Nothing waits for an answer."
		if all {
			what = "Nothing has been asked."
		}
		fmt.Fprintln(c.Out, what)
		return
	}
	var rows [][]string
	for _, q := range found {
		ti := q.TaskInstance
		answer := "-"
		if q.ResponseReceived {
			answer = strings.Join(q.ChosenOptions, ", ")
			if by := q.RespondedByUser; by != nil {
				answer += " (" + by.Name + ")"
			} else {
				answer += " (default)"
			}
		}
		rows = append(rows, []string{ti.DAGID, ti.DagRunID, wire.InstanceName(ti.TaskID, ti.MapIndex), q.Subject, strings.Join(q.Options, ", "),
			moment(q.CreatedAt), moment(q.Ostro.TimeoutAt), answer})
	}
	c.table([]string{"DAG", "RUN", "TASK", "SUBJECT", "OPTIONS", "ASKED", "UNTIL", "ANSWER"}, rows)
}

func (c *command) approvalsAnswer() *cobra.Command {
	var options, params []string
	index, as := -1, ""
	cmd := &cobra.Command{Use: "answer DAG_ID RUN_ID TASK_ID", Short: "Answer what a task asks", Args: args(3, 3),
		Long: "Answer what a task asks: choose among its options and fill in its fields. A field's value is JSON, or else text.\n\nWhere a task has " +
			"assigned_users, one of them must answer. Who you are is the name of your account, or what --as says: the token is " +
			"everybody's, so this is a word, not a proof.",
		Example: "  ostro approvals answer training manual__1 approve --option Approve\n  ostro approvals answer training manual__1 settings --option OK --param rate=0.1 --param note=fine\n  ostro approvals answer training manual__1 approve --option Approve --as ana",
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(options) == 0 {
				return usage("say what is chosen: --option NAME")
			}
			filled := map[string]json.RawMessage{}
			for _, p := range params {
				name, value, ok := strings.Cut(p, "=")
				if !ok || name == "" {
					return usage("--param is NAME=VALUE, not %q", p)
				}
				filled[name] = jsonOrText(value)
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ti, err := instanceOf(cmd.Context(), cl, a[0], a[2], a[1], index)
			if err != nil {
				return err
			}
			body := map[string]any{"chosen_options": options, "params_input": filled}
			path := client.Path("dags", a[0], "dagRuns", ti.DagRunID, "taskInstances", a[2], strconv.Itoa(index), "hitlDetails")
			who := cmp.Or(as, account())
			r, err := client.Send[wire.HITLResponse](cmd.Context(), cl.As(who), "PATCH", path, nil, body)
			if client.StatusOf(err) == 404 {
				return &problem{code: exitNotFound, err: fmt.Errorf("%s of %s asks nothing", wire.InstanceName(a[2], index), a[0]), hint: "see: ostro approvals list " + a[0]}
			}
			if client.StatusOf(err) == http.StatusForbidden { // not for the token: it has just been good for a question
				return &problem{code: exitRefused, err: err, hint: "if you are one of them: --as ID"}
			}
			if err != nil {
				return err
			}
			return c.show(r, func() {
				fmt.Fprintf(c.Out, "Answered %s of %s: %s\n", wire.InstanceName(a[2], index), a[0], strings.Join(r.ChosenOptions, ", "))
			})
		}}
	cmd.Flags().StringArrayVar(&options, "option", nil, "an option to choose; repeat it where several may be chosen")
	cmd.Flags().StringArrayVar(&params, "param", nil, "a field to fill in: NAME=VALUE")
	cmd.Flags().StringVar(&as, "as", "", "the id of who answers; your account's name if not given")
	cmd.Flags().IntVar(&index, "map-index", -1, "the index of a mapped task's instance")
	return cmd
}

// account is the name of the account that runs this program; empty where it has none.
func account() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// jsonOrText is a value as it was meant: JSON where it is that, else text.
func jsonOrText(value string) json.RawMessage {
	if json.Valid([]byte(value)) {
		return json.RawMessage(value)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return json.RawMessage("null")
	}
	return text
}
