
# What the bash-completion package would give, for shells without it.
__ostro_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    # Words as they were typed: bash has cut them at each = and : too.
    local line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}

declare -F __ltrimcolon_completions >/dev/null || __ltrimcolon_completions()
{
    # bash replaces what stands behind the last colon only.
    [[ $1 == *:* && $COMP_WORDBREAKS == *:* ]] || return 0
    local typed=${1%"${1##*:}"} i
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$typed"}
    done
}
