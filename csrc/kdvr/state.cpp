// What a session carries from one epoch to the next, out and in. See Session in session.hpp.
#include "session.hpp"

namespace kdvr {

template <class T>
Carried Session<T>::carried() const {
    return {averaged_, compressed_, velocity_w_.size() > 0, cached_, mean_};
}

template <class T>
void Session<T>::velocity(T* coef, T* intercept) const {
    unpack(velocity_w_.data(), velocity_b_.data(), coef, intercept);
}

template <class T>
void Session<T>::running_average(double* coef, double* intercept) const {
    unpack(average_w_.data(), average_b_.data(), coef, intercept);
}

template <class T>
void Session<T>::mean(T* coef, T* intercept) const {
    unpack(mean_w_.data(), mean_b_.data(), coef, intercept);
}

template <class T>
void Session<T>::anchor(T* coef, T* intercept) const {
    unpack(weights_.anchor_w(), weights_.anchor_b(), coef, intercept);
}

template <class T>
void Session<T>::carry_on(const Carried& carried, const T* velocity, const T* velocity_intercept, const double* average,
                          const double* average_intercept) {
    averaged_ = carried.averaged, compressed_ = carried.compressed;
    if (velocity) {
        velocity_w_ = Buffer<T>(p_.layout().size), velocity_b_ = Buffer<T>(p_.intercepts());
        pack(velocity, velocity_intercept, velocity_w_.data(), velocity_b_.data());
    }
    if (average) {
        average_w_ = Buffer<double>(p_.layout().size), average_b_ = Buffer<double>(p_.intercepts());
        pack(average, average_intercept, average_w_.data(), average_b_.data());
    }
}

template <class T>
void Session<T>::place_anchor(const T* coef, const T* intercept, const T* table, bool cached, bool mean, const Poll& poll) {
    pack(coef, intercept, weights_.anchor_w(), weights_.anchor_b());
    cached_ = cached && !table, mean_ = false;  // the mean is given, and need not be that of this anchor (SAGA)
    if (table) {
        anchor_table(table, false, poll);
    } else {
        rebuild_anchor(poll);
    }
    cached_ = cached, mean_ = mean;
}

template Carried Session<float>::carried() const;
template void Session<float>::velocity(float*, float*) const;
template void Session<float>::running_average(double*, double*) const;
template void Session<float>::mean(float*, float*) const;
template void Session<float>::anchor(float*, float*) const;
template void Session<float>::carry_on(const Carried&, const float*, const float*, const double*, const double*);
template void Session<float>::place_anchor(const float*, const float*, const float*, bool, bool, const Poll&);
template Carried Session<double>::carried() const;
template void Session<double>::velocity(double*, double*) const;
template void Session<double>::running_average(double*, double*) const;
template void Session<double>::mean(double*, double*) const;
template void Session<double>::anchor(double*, double*) const;
template void Session<double>::carry_on(const Carried&, const double*, const double*, const double*, const double*);
template void Session<double>::place_anchor(const double*, const double*, const double*, bool, bool, const Poll&);

}  // namespace kdvr
